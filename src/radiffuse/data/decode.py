"""Prepares many images on all cores: results come in the order asked for, and memory holds a few chunks of them."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from pathlib import Path
from typing import TypeVar

from radiffuse.data.quality import PreparedImage, prepare_image
from radiffuse.errors import DataError

# Large enough that passing a chunk to a worker costs nothing beside it, small enough to keep all cores busy.
_CHUNK = 16
_CHUNKS_PER_PROCESS = 3

Item = TypeVar("Item")


def prepare_images(
    items: Iterable[tuple[Item, Path | None]], image_size_px: int, processes: int | None = None
) -> Generator[tuple[Item, PreparedImage | None]]:
    """Yield every item with its prepared image, in order; an item without a path passes through with None.

    Reads `items` a bounded number ahead. `processes` is the number of workers, None for one per core that this process
    may use. Closing the iterator early stops the workers. Raises DataError when a worker dies.
    """
    workers = len(os.sched_getaffinity(0)) if processes is None else processes
    remaining = iter(items)
    # Spawned, not forked: the parent has threads (Arrow's, the store's), and a fork may inherit their locks.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_follow_parent)
    pending: deque[tuple[list[tuple[Item, Path | None]], Future[list[PreparedImage | None]]]] = deque()
    try:
        while True:
            while len(pending) < workers * _CHUNKS_PER_PROCESS and (chunk := list(islice(remaining, _CHUNK))):
                pending.append((chunk, pool.submit(_prepare_chunk, [path for _, path in chunk], image_size_px)))
            if not pending:
                return
            chunk, future = pending.popleft()
            for (item, _), image in zip(chunk, future.result(), strict=True):
                yield item, image
    except BrokenProcessPool as error:
        raise DataError(
            "a process that decodes images died, most likely for want of memory; nothing was published. "
            f"Run again with more memory or fewer than {workers} cores"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _prepare_chunk(paths: list[Path | None], image_size_px: int) -> list[PreparedImage | None]:
    return [None if path is None else prepare_image(path, image_size_px) for path in paths]


def _follow_parent() -> None:
    """Leave Ctrl-C to the parent, and never outlive it: a killed parent cannot close the pool."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
