"""How far, how fast, how long still: a bar on a terminal, plain lines in pods and pipes, always on stderr."""

import os
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

if TYPE_CHECKING:
    from tqdm import tqdm

LINE_SECONDS = 5.0

Item = TypeVar("Item")


class Progress:
    """Progress of one activity; use it as a context manager, or close it.

    `total` is the number of units, None when it is not known. Rank 0 alone reports. RADIFFUSE_PROGRESS=lines asks for
    lines on a terminal too.
    """

    def __init__(self, total: int | None = None, label: str = "work", unit: str = "items") -> None:
        self._total, self._label, self._unit = total, label, unit
        self._done = 0
        self._figures: dict[str, object] = {}
        self._start = self._last_line = time.monotonic()
        self._is_silent = os.environ.get("RANK", "0") != "0"
        self._is_closed = False
        self._bar: tqdm[Any] | None = None
        if not self._is_silent and shows_bars():
            self._bar = _open_bar(total, label, unit)

    def update(self, n: int = 1, **figures: object) -> None:
        """Count `n` more units; figures such as loss=0.12 are shown beside the count."""
        self._done += n
        self._figures.update(figures)
        if self._bar is not None:
            self._bar.set_postfix({name: _format(value) for name, value in self._figures.items()}, refresh=False)
            self._bar.update(n)
        elif time.monotonic() - self._last_line >= LINE_SECONDS:
            self._write_line()

    def close(self) -> None:
        """Show the last state and end the line."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._bar is not None:
            self._bar.close()
        else:
            self._write_line()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        self.close()

    def _write_line(self) -> None:
        if self._is_silent:
            return
        self._last_line = time.monotonic()
        elapsed = self._last_line - self._start
        rate = self._done / elapsed if elapsed > 0 else 0.0
        fields: dict[str, object] = {"progress": self._label, "done": self._done}
        if self._total is not None:
            fields["total"] = self._total
        fields |= {"unit": self._unit, "per_second": f"{rate:.3g}", "elapsed_seconds": f"{elapsed:.0f}"}
        if self._total is not None and self._done > 0:
            fields["eta_seconds"] = f"{max(self._total - self._done, 0) / self._done * elapsed:.0f}"
        fields |= {name: _format(value) for name, value in self._figures.items()}
        print(" ".join(f"{name}={value}" for name, value in fields.items()), file=sys.stderr, flush=True)


def track(
    iterable: Iterable[Item], total: int | None = None, label: str = "work", unit: str = "items"
) -> Iterator[Item]:
    """The items, with progress counted as each one is done; `total` is the iterable's length where it has one."""
    if total is None and isinstance(iterable, Sized):
        total = len(iterable)
    with Progress(total, label, unit) as progress:
        for item in iterable:
            yield item
            progress.update()


def shows_bars() -> bool:
    """Whether progress is drawn, and not told in lines."""
    return _has_terminal() and os.environ.get("RADIFFUSE_PROGRESS") != "lines"


def _has_terminal() -> bool:
    """Whether stderr is a terminal with columns; one that a container was given may have none, and shows no bar."""
    return sys.stderr.isatty() and os.get_terminal_size(sys.stderr.fileno()).columns > 0


def _open_bar(total: int | None, label: str, unit: str) -> "tqdm[Any]":
    from tqdm import tqdm

    return tqdm(total=total, desc=label, unit=f" {unit}", dynamic_ncols=True, file=sys.stderr)


def _format(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
