"""What each step of a pipeline's run notes in the store, so that its last step can say how the run ended.

KFP tells that step no more than whether the others failed together. A step is known by its executor input, which
carries the parameters `run` and `step`; without them nothing is noted.
"""

import logging
import re
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from radiffuse.errors import ConfigError, DataError, RadiffuseError

if TYPE_CHECKING:
    from radiffuse.storage import Store

logger = logging.getLogger(__name__)

NOTES_URI = "s3://reports/pipeline-runs"


class StepNote(BaseModel):
    """How a step, or one part of it, is doing; a step that was killed stays `running`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    run: str
    step: str
    part: str = ""
    """K/N, where the step shares its work."""
    state: Literal["running", "done", "failed"] = "running"
    started_unix_seconds: float
    ended_unix_seconds: float | None = None
    result: str = ""
    """Kind and address of what the step made."""
    error: str = ""
    is_input_wrong: bool = False
    """Whether the same run would fail again."""

    @property
    def name(self) -> str:
        """The step as a person calls it."""
        return f"{self.step} {self.part}".strip()

    @property
    def uri(self) -> str:
        """Where the note lies."""
        return f"{NOTES_URI}/{self.run}/{re.sub(r'[^a-z0-9]+', '-', self.name.lower())}.json"


_current: StepNote | None = None
"""Of this process, which is one step."""


def begin_note(executor_input: Mapping[str, Any]) -> None:
    """Note that the step of this executor input runs."""
    global _current
    parameters = executor_input.get("inputs", {}).get("parameterValues", {})
    if "run" in parameters and "step" in parameters:
        names = {name: str(parameters.get(name, "")) for name in ("run", "step", "part")}
        _current = StepNote(**names, started_unix_seconds=time.time())
        _write(_current)


def end_note(result: str) -> None:
    """Note that this process's step is done."""
    _close(state="done", result=result)


def fail_note(error: BaseException) -> None:
    """Note why this process's step failed; of an error that is not ours only the type, as its text may hold data."""
    known = isinstance(error, RadiffuseError)
    message = str(error) if known else f"{type(error).__name__}; the step's log has the rest"
    _close(state="failed", error=message, is_input_wrong=isinstance(error, ConfigError | DataError))


def read_notes(store: "Store", run: str) -> list[StepNote]:
    """The notes of a run, oldest first; one that another version wrote is left out."""
    notes = []
    for uri in store.list(f"{NOTES_URI}/{run}"):
        try:
            notes.append(StepNote.model_validate_json(store.get_bytes(uri)))
        except ValidationError:
            logger.warning("unreadable_note uri=%s", uri)
    return sorted(notes, key=lambda note: note.started_unix_seconds)


def _close(**changes: Any) -> None:
    global _current
    if _current is not None:
        _write(_current.model_copy(update={"ended_unix_seconds": time.time(), **changes}))
        _current = None


def _write(note: StepNote) -> None:
    """A step must not fail for want of its note."""
    from radiffuse.storage import open_store

    try:
        open_store().put_bytes(note.uri, note.model_dump_json().encode())
    except RadiffuseError as error:
        logger.warning("step_not_noted step=%s: %s", note.name, error)
