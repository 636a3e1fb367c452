"""One rank of a torchrun job: its exit code, and the error it leaves for the launcher. Light: it imports no torch."""

import contextlib
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypedDict

from radiffuse import errors
from radiffuse.errors import Preempted, RadiffuseError, TrainingError
from radiffuse.orphans import end_with_parent
from radiffuse.outcome import Outcome

logger = logging.getLogger(__name__)

ERROR_DIR_VARIABLE = "RADIFFUSE_ERROR_DIR"
LOG_LEVEL_VARIABLE = "RADIFFUSE_LOG_LEVEL"
"""What the command was started with; the ranks other than the first say warnings and worse alone."""


class ErrorRecord(TypedDict):
    """An error on its way to another process."""

    kind: str
    message: str
    seconds: float


def run_rank(work: Callable[[], object]) -> int:
    """Configure logging, do the work and return the exit code; an error is also left where the launcher reads it."""
    end_with_parent()
    level = os.environ.get(LOG_LEVEL_VARIABLE, "INFO") if _rank() == "0" else logging.WARNING
    logging.basicConfig(level=level, stream=sys.stderr, format="%(levelname).1s %(name)s %(message)s")
    try:
        work()
    except RadiffuseError as error:
        leave_error(error)
        logger.debug("rank=%s failed", _rank(), exc_info=True)
        return Outcome.of(error)
    except Exception as error:
        leave_error(error)
        logger.exception("rank=%s failed", _rank())
        return Outcome.of(error)
    return Outcome.DONE


def leave_error(error: Exception, rank: str | None = None) -> None:
    """Write the error as JSON below RADIFFUSE_ERROR_DIR; without one, log it."""
    folder = os.environ.get(ERROR_DIR_VARIABLE)
    if folder is None:
        logger.error("%s", error)
        return
    path = Path(folder) / f"{_rank() if rank is None else rank}.json"
    # A launcher that was killed has taken its folder with it, and nobody is left to read this.
    with contextlib.suppress(OSError):
        path.with_suffix(".part").write_text(json.dumps(record_of(error)), encoding="utf-8")
        path.with_suffix(".part").rename(path)


def record_of(error: Exception) -> ErrorRecord:
    """The error as it travels."""
    return {"kind": type(error).__name__, "message": str(error), "seconds": time.time()}


def error_of(record: ErrorRecord) -> RadiffuseError:
    """The error that a record tells of, of its own type where that is one of ours."""
    kind = getattr(errors, record["kind"], None)
    if isinstance(kind, type) and issubclass(kind, RadiffuseError):
        return kind(record["message"])
    return TrainingError(f"{record['kind']}: {record['message']} (the traceback is above)")


def read_records(folder: Path) -> list[ErrorRecord]:
    """What the ranks of a job left."""
    return [json.loads(path.read_bytes()) for path in folder.glob("*.json")]


def first_cause(records: Iterable[ErrorRecord]) -> ErrorRecord | None:
    """The first that was a cause, not another rank's echo of it."""
    return min(records, key=_precedence, default=None)


def _precedence(record: ErrorRecord) -> tuple[int, float]:
    # A rank that loses its peer fails with an error of the collective, which says nothing of the reason.
    if record["kind"] == Preempted.__name__:
        return 1, record["seconds"]
    return 0 if hasattr(errors, record["kind"]) else 2, record["seconds"]


def _rank() -> str:
    return os.environ.get("RANK", "0")
