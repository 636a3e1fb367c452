"""A cluster of real nodes beside a control plane: what their pods need to find each other, and the images they run."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from images.recipe import Image
from tests.cluster.nodes.cgroups import run_cgroup
from tests.cluster.nodes.containerd import imported
from tests.cluster.nodes.network import start_name_service, start_proxy
from tests.cluster.nodes.node import Node, Place
from tests.cluster.plane import ControlPlane
from tests.cluster.processes import Server

RANK, AGENT = "radiffuse.train", "radiffuse.agent"
"""Modules that a pod's processes run; torchrun is told both."""


class RealNodes:
    """As many nodes as asked for, each of which holds the images; entering waits until pods can be placed on them."""

    def __init__(self, plane: ControlPlane, images: Sequence[Image], count: int = 2) -> None:
        """images: the first is what a pod's namespaces are held by."""
        self._plane = plane
        self._pause = images[0].name
        self._folder = plane.folder / "nodes"
        self._folder.mkdir()
        self._images = imported(images, plane.log_folder)
        self._servers: list[Server] = []
        self.start_seconds = 0.0
        self.nodes: list[Node] = []
        self._count = count

    def __enter__(self) -> Self:
        start = time.monotonic()
        try:
            self._servers = [start_name_service(self._plane), start_proxy(self._plane)]
            self.add(self._count)
        except BaseException:
            self.stop()
            raise
        self.start_seconds = time.monotonic() - start
        return self

    def __exit__(self, *_exception: object) -> None:
        self.stop()

    def add(self, count: int = 1) -> list[Node]:
        """Start more nodes, all at once; raises ServerError."""
        added = [self._new_node(len(self.nodes) + number) for number in range(count)]
        self.nodes += added
        for node in added:
            node.start()
        for node in added:
            node.wait_until_ready()
        return added

    def named(self, name: str) -> Node:
        """The node that the cluster knows by this name."""
        return next(node for node in self.nodes if node.name == name)

    def stop(self) -> None:
        """Stop everything; containers end with the process namespace."""
        for node in self.nodes:
            node.stop()
        for server in self._servers:
            server.stop()

    def _new_node(self, index: int) -> Node:
        place = Place(index, self._folder / f"node-{index}", f"{run_cgroup()}/node-{index}")
        return Node(self._plane, place, self._images, self._pause)


def ranks_in_pod(uid: str) -> list[int]:
    """Process ids of the training processes in a pod's containers, torchrun's own left out."""
    processes = [
        folder for folder in Path("/proc").iterdir() if folder.name.isdecimal() and uid in _read(folder / "cgroup")
    ]
    arguments = {int(folder.name): _read(folder / "cmdline").split("\0") for folder in processes}
    return sorted(pid for pid, words in arguments.items() if RANK in words and AGENT not in words)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""
