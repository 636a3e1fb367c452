"""What became of a job, as Markdown for people who read no logs: phases, progress, endings, what to do next."""

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import zip_longest
from pathlib import Path

from radiffuse.cluster.state import Phase
from radiffuse.cluster.timeline import Moment, Timeline, duration, progress_words
from radiffuse.local_files import write_text

EVENTS_SHOWN = 20
NEXT = {
    Phase.succeeded: "Nothing: the next step reads the model from the store.",
    Phase.suspended: "Run the same command or pipeline again: the job goes on from its newest checkpoint.",
    Phase.deleted: "Run the same command or pipeline again: a new job goes on from the newest checkpoint.",
    Phase.failed: (
        "Cure what the reason above names, then run the same command or pipeline again: a new job goes on from the "
        "newest checkpoint."
    ),
}


def write_summary(path: Path | None, timeline: Timeline, uri: str, conclusion: str) -> None:
    """Write it where it was asked for, whole or not at all; raises StorageError."""
    if path is not None:
        write_text(path, to_markdown(timeline, uri, conclusion))


def to_markdown(timeline: Timeline, uri: str, conclusion: str) -> str:
    """The whole page."""
    parts = [f"# Training job {timeline.name}", _escaped(conclusion), f"Result: `{uri}`"]
    state = timeline.last
    if state is not None and state.heartbeat is not None:
        parts.append(f"Last progress: `{progress_words(state.heartbeat)}`")
    parts += [_phases(timeline), _pods(timeline), _ends(timeline), _events(timeline)]
    parts += [f"- {_escaped(note)}" for note in timeline.notes]
    if state is not None and state.phase in NEXT:
        parts.append(f"**What to do next.** {NEXT[state.phase]}")
    return "\n\n".join(part for part in parts if part) + "\n"


def _phases(timeline: Timeline) -> str:
    rows = []
    for moment, following in zip_longest(timeline.phases, timeline.phases[1:]):
        lasted = duration(following.unix_seconds - moment.unix_seconds) if following is not None else ""
        rows.append((_clock(moment.unix_seconds), moment.what, lasted, moment.why))
    return _table("Phases", ("from (UTC)", "phase", "lasted", "last reason"), rows)


def _pods(timeline: Timeline) -> str:
    pods = timeline.last.pods if timeline.last is not None else ()
    rows = [(pod.name, pod.node or "none", pod.word, str(pod.restarts)) for pod in pods]
    return _table("Pods at the end", ("pod", "node", "state", "restarts"), rows)


def _ends(timeline: Timeline) -> str:
    rows = [(_clock(end.finished) if end.finished else "", str(end)) for end in timeline.ends]
    return _table("How containers ended", ("at (UTC)", "what"), rows)


def _events(timeline: Timeline) -> str:
    newest: list[Moment] = timeline.events[-EVENTS_SHOWN:]
    rows = [(_clock(event.unix_seconds), event.what, event.why) for event in newest]
    return _table("Events", ("at (UTC)", "what", "message"), rows)


def _table(title: str, head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    if not rows:
        return ""
    lines = [f"## {title}", "", _row(head), _row(tuple("---" for _ in head))]
    return "\n".join([*lines, *(_row(tuple(_escaped(cell) for cell in row)) for row in rows)])


def _row(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"


def _escaped(text: str) -> str:
    """Text that Markdown shows as it is: pods and servers write it, not we."""
    for mark in ("\\", "|", "<", "*", "_", "`", "[", "#"):
        text = text.replace(mark, f"\\{mark}")
    return " ".join(text.split())


def _clock(unix_seconds: float) -> str:
    return datetime.fromtimestamp(unix_seconds, UTC).strftime("%H:%M:%S")
