"""SIGTERM as an orderly exit: temporary folders are removed and connections closed, which the default would not do.

So is SIGHUP, which a terminal sends as it closes.
"""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn


def stop_signals() -> list[signal.Signals]:
    """SIGTERM, and SIGHUP unless it is ignored, as it is below nohup."""
    is_ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return [signal.SIGTERM] if is_ignored else [signal.SIGTERM, signal.SIGHUP]


@contextlib.contextmanager
def exit_on_sigterm() -> Iterator[None]:
    """Turn the first stop signal into SystemExit with 143 or 129; handlers set within go first. Main thread only.

    Further ones are not heeded, so that what was begun ends in order: a terminal that closes sends SIGHUP twice.
    """

    def _exit(number: int, _frame: FrameType | None) -> NoReturn:
        for other in previous:
            signal.signal(other, _pass)
        raise SystemExit(128 + number)

    previous = {number: signal.signal(number, _exit) for number in stop_signals()}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _pass(_number: int, _frame: FrameType | None) -> None:
    """Unlike SIG_IGN this is not handed down to processes that are started now."""
