"""Make things ahead of their use, in threads, in order."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

AHEAD_PER_WORKER = 2


def prefetch(load: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Iterator[Result]:
    """`load(item)` for each item in order; with workers > 0, that many threads load ahead.

    Threads, not processes: reading mapped pages, decoding PNGs and drawing noise all release the interpreter's lock,
    and a thread needs no shared memory and meets no signal.
    """
    if workers == 0:
        yield from map(load, items)
        return
    pending: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="loader") as pool:
        try:
            for item in items:
                pending.append(pool.submit(load, item))
                if len(pending) > workers * AHEAD_PER_WORKER:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
