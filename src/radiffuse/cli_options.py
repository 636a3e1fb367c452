"""Options that several verbs share, and what is checked of them before a verb begins."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Layout(StrEnum):
    """A published dataset layout."""

    chexpert = "chexpert"
    mimic = "mimic"


class Role(StrEnum):
    """What samples are drawn for: the baseline, or the adapted model."""

    before = "before"
    after = "after"


def _executor_input(text: str | None) -> str | None:
    """Refuse a malformed one before any work is done, and note that the step runs."""
    if text is not None:
        from radiffuse.executor import read_executor_input
        from radiffuse.step_notes import begin_note

        begin_note(read_executor_input(text))
    return text


def writable(parameter: typer.CallbackParam, path: Path | None) -> Path | None:
    """Refuse a place that cannot be written before any work is done."""
    if path is not None:
        from radiffuse.local_files import require_writable

        require_writable(path, parameter.opts[0])
    return path


LayoutName = Annotated[Layout, typer.Argument(help="Published layout of the dataset.")]
Config = Annotated[str, typer.Option("--config", "-c", help="Preset name, YAML file or JSON document.")]
Set = Annotated[list[str] | None, typer.Option("--set", help="section.field=value, over the configuration.")]
Out = Annotated[Path, typer.Option("--out", callback=writable, help="Where to write the manifest of the result.")]
OptionalOut = Annotated[
    Path | None,
    typer.Option(
        "--out", callback=writable, help="Where to write the manifest of the result; required without --part."
    ),
]
PartOfWork = Annotated[
    str | None, typer.Option("--part", help="K/N: do this part alone; without --part the rest is done and completed.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
ExecutorInput = Annotated[
    str | None,
    typer.Option(
        "--executor-input",
        callback=_executor_input,
        help="KFP's executor input; its output file is then written too.",
    ),
]


def overrides(set_: list[str] | None) -> tuple[str, ...]:
    """What --set was given, in order."""
    return () if set_ is None else tuple(set_)
