"""What a run of the node tests has shown, kept as a page: figures, and what happened when in each scenario."""

import os
import platform
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.cluster.versions import PRODUCTS

HEADER = """# Training on two real nodes: one run

Written by `make cluster-test-node`, which starts two kubelets with containerd beside a control plane, all of it on one
machine, and trains a tiny model in PyTorchJobs of two pods: see [cluster-tests.md](cluster-tests.md)."""


@dataclass
class Diary:
    """What happened in one scenario, in seconds since it began."""

    title: str
    lines: list[str] = field(default_factory=list)
    start: float = field(default_factory=time.monotonic)

    def note(self, text: str) -> None:
        """It happens now."""
        self.lines.append(f"{time.monotonic() - self.start:6.1f} s  {text}")


@dataclass
class Record:
    """Figures and diaries of a whole run."""

    figures: dict[str, str] = field(default_factory=dict)
    diaries: list[Diary] = field(default_factory=list)

    def figure(self, what: str, value: str) -> None:
        """One row of the table."""
        self.figures[what] = value

    def diary(self, title: str) -> Diary:
        """A new, empty one."""
        diary = Diary(title)
        self.diaries.append(diary)
        return diary

    def write(self, path: Path) -> None:
        """As Markdown."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self._text(), encoding="utf-8")

    def _text(self) -> str:
        rows = [f"| {what} | {value} |" for what, value in (_machine() | self.figures).items()]
        parts = [HEADER, "\n".join(["| what | value |", "|---|---|", *rows])]
        parts += [f"## {diary.title}\n\n```\n" + "\n".join(diary.lines) + "\n```" for diary in self.diaries]
        return "\n\n".join(parts) + "\n"


def _machine() -> dict[str, str]:
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    versions = ", ".join(f"{name} {product.version}" for name, product in PRODUCTS.items() if name not in _UNUSED)
    return {
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{os.cpu_count()} cores, {memory:.0f} GiB, Linux {platform.release().split('-')[0]}",
        "load average of the last 15 minutes": f"{os.getloadavg()[2]:.0f}",
        "versions": versions,
    }


_UNUSED = {"kwok", "trainer", "jobset", "promtool"}
