"""One rank of a torchrun job: its exit code, and the error it leaves for the launcher. Light: it imports no torch."""

import contextlib
import ctypes
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from radiffuse import errors
from radiffuse.errors import ConfigError, Preempted, RadiffuseError, TrainingError

logger = logging.getLogger(__name__)

ERROR_DIR_VARIABLE = "RADIFFUSE_ERROR_DIR"
EXIT_FAILED = 1
EXIT_MISUSED = 2
EXIT_PREEMPTED = 128 + signal.SIGTERM  # as a shell reports it; non-zero, so that no half of a gang looks finished

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def run_rank(work: Callable[[], object]) -> int:
    """Configure logging, do the work and return the exit code; an error is also left where the launcher reads it."""
    end_with_parent()
    level = logging.INFO if _rank() == "0" else logging.WARNING
    logging.basicConfig(level=level, stream=sys.stderr, format="%(levelname).1s %(name)s %(message)s")
    try:
        work()
    except RadiffuseError as error:
        leave_error(error)
        logger.debug("rank=%s failed", _rank(), exc_info=True)
        return _exit_code(error)
    except Exception as error:
        leave_error(error)
        logger.exception("rank=%s failed", _rank())
        return EXIT_FAILED
    return 0


def end_with_parent() -> None:
    """Ask the kernel for a SIGTERM when the parent dies: a run whose launcher was killed must not go on alone."""
    parent = os.getppid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)


def leave_error(error: Exception, rank: str | None = None) -> None:
    """Write the error as JSON below RADIFFUSE_ERROR_DIR; without one, log it."""
    folder = os.environ.get(ERROR_DIR_VARIABLE)
    if folder is None:
        logger.error("%s", error)
        return
    record = {"kind": type(error).__name__, "message": str(error), "seconds": time.time()}
    # A launcher that was killed has taken its folder with it, and nobody is left to read this.
    with contextlib.suppress(OSError):
        (Path(folder) / f"{_rank() if rank is None else rank}.json").write_text(json.dumps(record), encoding="utf-8")


def read_error(folder: Path) -> RadiffuseError | None:
    """The error that stopped a job, of its own type: the first that was a cause, not another rank's echo of it."""
    records = sorted((json.loads(path.read_bytes()) for path in folder.glob("*.json")), key=_precedence)
    if not records:
        return None
    kind = getattr(errors, records[0]["kind"], None)
    if isinstance(kind, type) and issubclass(kind, RadiffuseError):
        return kind(records[0]["message"])
    return TrainingError(f"{records[0]['kind']}: {records[0]['message']} (the traceback is above)")


def _precedence(record: dict[str, object]) -> tuple[int, object]:
    # A rank that loses its peer fails with an error of the collective, which says nothing of the reason.
    if record["kind"] == Preempted.__name__:
        return 1, record["seconds"]
    return 0 if hasattr(errors, str(record["kind"])) else 2, record["seconds"]


def _exit_code(error: RadiffuseError) -> int:
    if isinstance(error, Preempted):
        return EXIT_PREEMPTED
    return EXIT_MISUSED if isinstance(error, ConfigError) else EXIT_FAILED


def _rank() -> str:
    return os.environ.get("RANK", "0")
