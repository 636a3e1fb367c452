"""Where a pod stands among the pods of its job: the operators say so in PET_*, as torchrun reads them."""

import ipaddress
import os
import socket
import time
from dataclasses import dataclass
from typing import Self

from radiffuse.errors import ConfigError, TrainingError

CONNECT_SECONDS = 5.0
RETRY_SECONDS = 0.25


@dataclass(frozen=True)
class Topology:
    """One of `nodes` pods, with as many ranks as each of them."""

    nodes: int
    processes_per_node: int
    node: int
    master_address: str
    master_port: int
    """Of torchrun's store on node 0; the workers' own line to node 0 is on the port after it."""

    @classmethod
    def from_environment(cls) -> Self:
        """Raises ConfigError when a variable is missing or is not a number."""
        return cls(
            nodes=_number("PET_NNODES"),
            processes_per_node=_number("PET_NPROC_PER_NODE"),
            node=_number("PET_NODE_RANK"),
            master_address=os.environ.get("PET_MASTER_ADDR", "127.0.0.1"),
            master_port=_number("PET_MASTER_PORT"),
        )

    @property
    def world_size(self) -> int:
        """Ranks of the whole job."""
        return self.nodes * self.processes_per_node

    @property
    def agent_arguments(self) -> list[str]:
        """What torchrun is told beside PET_*: one node need not wait for the name of its own service."""
        return ["--master-addr", "127.0.0.1"] if self.nodes == 1 else []

    def listen(self) -> socket.socket:
        """Node 0's server for the lines of the others; raises TrainingError when the port is taken."""
        port = self.master_port + 1
        try:
            if self._is_on_one_machine:
                return socket.create_server(("127.0.0.1", port))
            if socket.has_dualstack_ipv6():
                return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
            return socket.create_server(("", port))
        except OSError as error:
            raise TrainingError(f"cannot listen on port {port} for the other nodes: {error}") from error

    def connect(self, deadline: float) -> socket.socket:
        """A line to node 0, tried until the deadline of time.monotonic(); then it raises TrainingError."""
        start, address = time.monotonic(), (self.master_address, self.master_port + 1)
        while True:
            try:
                return socket.create_connection(address, timeout=CONNECT_SECONDS)
            except OSError as error:  # its name may not be known yet, its pod may not run yet
                if time.monotonic() + RETRY_SECONDS > deadline:
                    raise TrainingError(
                        f"node 0 did not listen at {address[0]}:{address[1]} within {deadline - start:.0f} s ({error});"
                        " see whether its pod is scheduled and running"
                    ) from error
            time.sleep(RETRY_SECONDS)

    @property
    def _is_on_one_machine(self) -> bool:
        try:
            return ipaddress.ip_address(self.master_address).is_loopback
        except ValueError:
            return self.master_address == "localhost"


def _number(name: str) -> int:
    text = os.environ.get(name, "")
    if not text.isdecimal():
        raise ConfigError(f"{name} is {text!r} and must be a number; a PyTorchJob or a TrainJob sets it in its pods")
    return int(text)
