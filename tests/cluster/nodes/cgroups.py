"""Control groups for the nodes of one run, made beforehand as a kubelet wants them, and removed afterwards."""

import contextlib
import os
import time
from pathlib import Path

MOUNT = Path("/sys/fs/cgroup")
VARIABLE = "RADIFFUSE_NODES_CGROUP"
REMOVAL_SECONDS = 10.0
"""A group stays busy for a moment after its last process has died."""


def run_cgroup() -> str:
    """The path of this run's group below each hierarchy."""
    return os.environ[VARIABLE]


def make_cgroup(path: str) -> None:
    """Make a group in every hierarchy of version 1, or in the one of version 2."""
    for hierarchy in _hierarchies():
        folder = hierarchy
        for part in Path(path.lstrip("/")).parts:
            parent, folder = folder, folder / part
            folder.mkdir(exist_ok=True)
            for name in ("cpuset.cpus", "cpuset.mems"):  # a new group of version 1 has none, and takes no process
                if hierarchy.name == "cpuset":
                    (folder / name).write_text((parent / name).read_text(encoding="utf-8"), encoding="utf-8")


def remove_cgroup(path: str) -> list[Path]:
    """Remove a group with all below it from every hierarchy; returns what could not be removed."""
    deadline = time.monotonic() + REMOVAL_SECONDS
    while True:
        left = [folder for hierarchy in _hierarchies() for folder in _remove_tree(hierarchy / path.lstrip("/"))]
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.1)


def _hierarchies() -> list[Path]:
    if (MOUNT / "cgroup.controllers").exists():
        return [MOUNT]
    return sorted({path.resolve() for path in MOUNT.iterdir() if path.is_dir()})


def _remove_tree(folder: Path) -> list[Path]:
    if not folder.exists():
        return []
    for parent, _, _ in os.walk(folder, topdown=False):
        with contextlib.suppress(OSError):
            os.rmdir(parent)
    return [folder] if folder.exists() else []
