"""How a pipeline's run ended, for people: what ran, what failed, what to do. In Markdown."""

import json
from collections.abc import Sequence
from typing import Any

from radiffuse.errors import ConfigError, RadiffuseError
from radiffuse.step_notes import StepNote, read_notes

AGAIN = "Then submit the same run again: what is done lies in the store and is not done a second time."
DASHBOARD = "The figures and the report are artifacts of the step `evaluate`."


def describe_end(run: str, status: str | None, steps: Sequence[str]) -> str:
    """A page whose first line says it all.

    `status` is KFP's PipelineTaskFinalStatus of all other steps together, as JSON; where it contradicts the notes, or
    says that steps still run (as KFP 2.17 does after a ParallelFor), the notes are believed. Raises ConfigError when it
    is not JSON.
    """
    notes, trouble = _read(run)
    rows = _rows(notes, steps)
    has_failed = _state(status) == "FAILED" or any(note.state == "failed" for note in notes)
    is_done = bool(rows) and all(row[1] == "done" for row in rows) and not has_failed
    lines = [_headline(rows, is_done, has_failed, trouble), ""]
    if rows:
        lines += ["| step | state | took | what |", "|---|---|---|---|"]
        lines += [f"| {' | '.join(row)} |" for row in rows]
    advice = [DASHBOARD] if is_done else _advice(notes, rows, trouble)
    return "\n".join([*lines, "", "## What to do", "", *(f"- {line}" for line in advice), ""])


def read_steps(text: str | None) -> list[str]:
    """Names from a JSON list; raises ConfigError when it is something else."""
    try:
        names = [] if text is None else json.loads(text)
    except json.JSONDecodeError:
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"--steps must be a JSON list of names, not {str(text)[:40]!r}")
    return names


def _read(run: str) -> tuple[list[StepNote], str]:
    """The notes, or why there are none; the end is told even when the store is what failed."""
    from radiffuse.storage import open_store

    try:
        return read_notes(open_store(), run), ""
    except RadiffuseError as error:
        return [], str(error)


def _state(status: str | None) -> str:
    if not status:
        return ""
    try:
        document: Any = json.loads(status)
    except json.JSONDecodeError as error:
        raise ConfigError(f"--status must be KFP's final status as JSON, not {status[:40]!r}") from error
    return str(document.get("state", "")) if isinstance(document, dict) else ""


def _rows(notes: Sequence[StepNote], steps: Sequence[str]) -> list[tuple[str, str, str, str]]:
    """Step, state, time taken and what came of it; the expected steps in their order, then whatever else ran."""
    names = [*steps, *dict.fromkeys(note.step for note in notes if note.step not in steps)]
    rows = []
    for name in names:
        found = [note for note in notes if note.step == name]
        rows += [_row(note) for note in sorted(found, key=lambda note: (note.part == "", note.part))]
        if not any(note.part == "" for note in found):
            rows.append((name, "not started", "", ""))
    return rows


def _row(note: StepNote) -> tuple[str, str, str, str]:
    state = "no end noted" if note.state == "running" else note.state
    took = "" if note.ended_unix_seconds is None else f"{note.ended_unix_seconds - note.started_unix_seconds:.0f} s"
    what = (note.error if note.state == "failed" else note.result).replace("|", "\\|").replace("\n", " ")
    return note.name, state, took, what


def _headline(rows: Sequence[tuple[str, ...]], is_done: bool, has_failed: bool, trouble: str) -> str:
    if trouble:
        return f"# {'Failed' if has_failed else 'Ended'}; how, the store cannot say"
    done = sum(row[1] == "done" for row in rows)
    if is_done:
        return f"# Done: all {len(rows)} steps"
    broken = [row[0] for row in rows if row[1] in ("failed", "no end noted")]
    culprit = f" in {', '.join(broken)}" if broken else ""
    return f"# Failed{culprit}: {done} of {len(rows)} steps done"


def _advice(notes: Sequence[StepNote], rows: Sequence[tuple[str, ...]], trouble: str) -> list[str]:
    if trouble:
        return [f"The store was asked for the steps' notes: {trouble}", AGAIN]
    advice = []
    for note in notes:
        if note.state == "failed" and note.is_input_wrong:
            advice.append(f"`{note.name}` was given what it cannot use; correct what its message names.")
        elif note.state == "failed":
            advice.append(f"`{note.name}` failed for a reason that may pass; its log has more.")
        elif note.state == "running":
            advice.append(
                f"`{note.name}` began and noted no end: its pod was deleted, ran out of memory or passed its deadline."
                " `kubectl describe pod` says which; `memory` is a parameter."
            )
    if not advice and any(row[1] == "not started" for row in rows):
        advice.append(
            "No step failed by itself, so KFP could not start one: look at the events of the first that did not start."
            " An image, the store's secret or the data's claim may be missing."
        )
    return [*advice, AGAIN]
