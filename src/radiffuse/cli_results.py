"""How a step ends on the command line: its manifest is written, KFP is told, the result is printed."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import typer

from radiffuse.errors import ConfigError, DataError, Preempted, RadiffuseError

if TYPE_CHECKING:
    from radiffuse.manifest import Manifest
    from radiffuse.parts import Part


def require_output() -> None:
    """Raise RadiffuseError where the caller closed stdout: results would vanish, and a file would take its number."""
    if sys.stdout is None:
        raise RadiffuseError("stdout is closed, so there is nowhere to print to; redirect it to a file or to /dev/null")


def exit_code(error: Exception) -> int:
    """What the command ends with: 2 when it was misused, a shell's number of the signal that stopped it, or 1."""
    if isinstance(error, Preempted):
        return 128 + error.number
    return 2 if isinstance(error, ConfigError) else 1


def finish_step(manifest: "Manifest", out: Path, executor_input: str | None, as_json: bool) -> None:
    """Write the manifest where it was asked for, tell KFP, print the result."""
    from radiffuse.executor import write_executor_output
    from radiffuse.step_notes import end_note

    manifest.save(out)
    if executor_input is not None:
        write_executor_output(executor_input, manifest)
    end_note(f"{manifest.kind} {manifest.uri}")
    if as_json:
        typer.echo(manifest.model_dump_json(indent=2))
    else:
        figures = (
            f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}"
            for name, value in manifest.counts.items()
            if isinstance(value, float) or value != 0
        )
        typer.echo(" ".join((manifest.kind, manifest.uri, *figures)))


def stored_output(uri: str, kind: str | None) -> "Manifest":
    """The manifest of an output in the store.

    Raises DataError when it is not complete or of another kind, ConfigError when there is no such kind.
    """
    from radiffuse.manifest import Kind, with_article
    from radiffuse.storage import open_store

    if kind not in (None, *get_args(Kind)):
        raise ConfigError(f"no kind {kind!r}; there are {', '.join(get_args(Kind))}")
    manifest = open_store().find(uri.rstrip("/"))
    if manifest is None:
        raise DataError(f"nothing complete at {uri}; give the address that a step printed, without manifest.json")
    if kind not in (None, manifest.kind):
        raise DataError(f"{uri} is {with_article(manifest.kind)}; this step needs {with_article(str(kind))}")
    return manifest


def required_out(out: Path | None) -> Path:
    """Where the manifest goes; raises ConfigError when nobody said."""
    if out is None:
        raise ConfigError("--out is missing: where to write the manifest of the result; only --part goes without it")
    return out


def finish_part(part: "Part", done: int, unit: str, executor_input: str | None) -> None:
    """A part has no manifest: what it made lies in the store for those that complete the whole."""
    from radiffuse.executor import write_executor_output
    from radiffuse.step_notes import end_note

    if executor_input is not None:
        write_executor_output(executor_input, None)
    end_note(f"{done} {unit}")
    typer.echo(f"part {part} {unit}={done}")
