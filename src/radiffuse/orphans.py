"""No process outlives the work it was started for: a parent answers for all below it, a child ends with its parent."""

import contextlib
import ctypes
import os
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER, PR_GET_CHILD_SUBREAPER = 1, 36, 37  # linux/prctl.h
KILL_SECONDS = 5.0
"""How long killed processes may take to go; one that hangs in the kernel goes when the container does."""


@contextlib.contextmanager
def reaping_orphans(own_child: Callable[[], int | None]) -> Iterator[None]:
    """Reap every child that ends but `own_child`, for which its own code waits. Main thread only.

    As long as that is None nothing is reaped: it may be about to get its number, and nobody leaves orphans before it.
    Afterwards orphans go where they went before.
    """
    adopted_before = _adopt_orphans(True)

    def reap(number: int, frame: FrameType | None) -> None:
        if (pid := own_child()) is not None:
            _reap(pid)

    previous = signal.signal(signal.SIGCHLD, reap)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, previous)
        _adopt_orphans(adopted_before)


def _adopt_orphans(adopt: bool) -> bool:
    """Take in orphans below this process, or no longer; whether it did so before. Off Linux the first process does."""
    if sys.platform != "linux":
        return False
    libc, before = ctypes.CDLL(None), ctypes.c_int()
    libc.prctl(PR_GET_CHILD_SUBREAPER, ctypes.byref(before))
    libc.prctl(PR_SET_CHILD_SUBREAPER, int(adopt))
    return bool(before.value)


def _reap(own_child: int) -> None:
    """All that have ended; behind `own_child` in the queue none is seen, and the next call finds it."""
    with contextlib.suppress(ChildProcessError):
        while ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            if ended.si_pid == own_child:
                return
            os.waitpid(ended.si_pid, 0)


def descendants() -> list[int]:
    """The processes below this one that have not ended; none where there is no /proc."""
    children = defaultdict(list)
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, parent = path.read_text().rpartition(")")[2].split()[:2]  # the name before may hold anything
            if state != "Z":
                children[int(parent)].append(int(path.parent.name))
    found: list[int] = []
    queue = [os.getpid()]
    while queue:
        below = children[queue.pop()]
        found += below
        queue += below
    return found


def kill_descendants() -> None:
    """End all processes below this one, those included that they start meanwhile."""
    deadline = time.monotonic() + KILL_SECONDS
    while (alive := descendants()) and time.monotonic() < deadline:
        for pid in alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)


def end_with_parent() -> None:
    """Ask the kernel for a SIGTERM when the parent dies: work whose launcher was killed must not go on alone."""
    parent = os.getppid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)
