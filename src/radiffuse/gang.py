"""What holds the pods of one job together: they start together, and when one ends all end, for one reason.

Each pod's worker keeps a TCP connection to that of node 0, on the port after torchrun's. Whoever dies, however
it dies, its connections close: nobody waits for a collective operation to time out. Lines of JSON pass on it:

    node k -> 0   {"node": k}                       it is there
    0 -> node k   {"start": n}                      all are there, and this is start n of the run
    0 -> node k   {"trouble": "..."}                ranks have failed or a node is lost: end yours soon
    node k -> 0   {"ended": record or null}         its ranks have ended, and of what
    0 -> node k   {"verdict": record or null, ...}  how the run ended, for all

Node 0 alone decides how a run ended, once its own ranks have: so no half of a gang looks finished.
"""

import json
import logging
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple, Protocol

from radiffuse.errors import RadiffuseError, TrainingError
from radiffuse.rank import ErrorRecord, error_of, first_cause, record_of
from radiffuse.topology import Topology

logger = logging.getLogger(__name__)

RETRY_SECONDS = 0.25
HELLO_SECONDS = 10.0
ENDING_SECONDS = 30.0
"""How long node 0 waits for the others to say what their ranks ended of, which they do when theirs are dead."""
VERDICT_SECONDS = 2 * ENDING_SECONDS
FAREWELL_SECONDS = 5.0
KEEPALIVE = {"TCP_KEEPIDLE": 15, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 9}
"""A node that vanishes without a word is lost after a minute."""

CountStart = Callable[[], int]
OnTrouble = Callable[[str], None]


class Verdict(NamedTuple):
    """How a run ended: `cause` is None when its result is in the store."""

    cause: ErrorRecord | None
    global_step: int


Decide = Callable[[ErrorRecord | None], Verdict]


class Gang(Protocol):
    """What a worker asks of its gang, in this order."""

    def begin(self, count_start: CountStart, timeout_seconds: float) -> int:
        """The number of this start, once all nodes are there; raises TrainingError when they are not there in time."""

    def watch(self, on_trouble: OnTrouble) -> None:
        """Call back, from any thread, when ranks of another node have failed or a node is lost."""

    def conclude(self, cause: ErrorRecord | None, decide: Decide) -> Verdict:
        """How the run ended, for all, once this node's ranks have ended of `cause`; node 0 decides."""


def join_gang(topology: Topology) -> Gang:
    """This node's side."""
    if topology.nodes == 1:
        return Alone()
    return Lead(topology) if topology.node == 0 else Follower(topology)


class Alone:
    """The gang of a job with one node."""

    def begin(self, count_start: CountStart, timeout_seconds: float) -> int:
        """There is nobody to wait for."""
        return count_start()

    def watch(self, on_trouble: OnTrouble) -> None:
        """There is nobody to lose."""

    def conclude(self, cause: ErrorRecord | None, decide: Decide) -> Verdict:
        """There is nobody to ask."""
        return decide(cause)


class Line:
    """A connection on which lines of JSON pass."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in KEEPALIVE.items():
            if hasattr(socket, name):  # Linux
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        self._connection = connection
        self._lines = connection.makefile("r", encoding="utf-8")

    def send(self, **message: Any) -> None:
        """Say something; that the other has gone is noticed by whoever listens to it."""
        with suppress(OSError):
            self._connection.sendall(json.dumps(message).encode() + b"\n")

    def receive(self, timeout_seconds: float | None = None) -> dict[str, Any] | None:
        """What is said next; None when nothing is, or the other has gone."""
        self._connection.settimeout(timeout_seconds)
        try:
            message = json.loads(self._lines.readline())
        except (OSError, ValueError):
            return None
        return message if isinstance(message, dict) else None

    def close(self) -> None:
        """Both directions."""
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        self._connection.close()


class Lead:
    """Node 0's side. Threads listen to the others, one each."""

    def __init__(self, topology: Topology) -> None:
        self._nodes = topology.nodes
        self._server = topology.listen()
        self._changed = threading.Condition()
        self._lines: dict[int, Line] = {}
        self._endings: dict[int, ErrorRecord | None] = {}
        self._gone: set[int] = set()
        self._has_begun = False
        self._trouble: str | None = None
        self._on_trouble: OnTrouble = _ignore
        threading.Thread(target=self._accept, name="gang", daemon=True).start()

    def begin(self, count_start: CountStart, timeout_seconds: float) -> int:
        """What goes wrong here is the verdict for all."""
        try:
            self._gather(timeout_seconds)
            start = count_start()
        except RadiffuseError as error:
            self._pronounce(Verdict(record_of(error), 0))
            raise
        self._tell(start=start)
        return start

    def watch(self, on_trouble: OnTrouble) -> None:
        """Trouble that came before is reported at once."""
        with self._changed:
            self._on_trouble = on_trouble
        if self._trouble is not None:
            on_trouble(self._trouble)

    def conclude(self, cause: ErrorRecord | None, decide: Decide) -> Verdict:
        """The first cause on any node is what the run ended of."""
        self._on_trouble = _ignore
        if cause is not None:
            self._report(cause["message"])
            with self._changed:
                self._changed.wait_for(lambda: len(self._endings) == self._nodes - 1, ENDING_SECONDS)
                others = [ending for ending in self._endings.values() if ending is not None]
            cause = first_cause([cause, *others])
        verdict = decide(cause)
        self._pronounce(verdict)
        return verdict

    def _gather(self, timeout_seconds: float) -> None:
        with self._changed:
            are_there = self._changed.wait_for(lambda: len(self._lines) == self._nodes - 1, timeout_seconds)
            self._has_begun = True
            missing = sorted(set(range(1, self._nodes)) - set(self._lines))
        if not are_there:
            raise TrainingError(
                f"of {self._nodes} nodes {missing} did not come within {timeout_seconds:g} s; see whether their pods "
                "are scheduled and running"
            )

    def _accept(self) -> None:
        with suppress(OSError):  # until the server is shut down
            while True:
                connection, _ = self._server.accept()
                threading.Thread(target=self._attend, args=(Line(connection),), name="gang", daemon=True).start()

    def _attend(self, line: Line) -> None:
        node = self._admit(line)
        if node is None:
            line.close()  # a node that was started again is early: it finds the next start of this one
            return
        while (message := line.receive()) is not None:
            self._note_ending(node, message["ended"])
        with self._changed:
            has_begun = self._has_begun
            if has_begun:
                self._gone.add(node)
            elif self._lines.get(node) is line:
                del self._lines[node]
            self._changed.notify_all()
        if has_begun and node not in self._endings:
            self._note_ending(node, _lost(node))

    def _admit(self, line: Line) -> int | None:
        hello = line.receive(HELLO_SECONDS)
        node = None if hello is None else hello.get("node")
        with self._changed:
            if self._has_begun or not isinstance(node, int) or not 0 < node < self._nodes:
                return None
            self._lines[node] = line
            self._changed.notify_all()
        return node

    def _note_ending(self, node: int, cause: ErrorRecord | None) -> None:
        with self._changed:
            self._endings[node] = cause
            self._changed.notify_all()
        if cause is not None:
            self._report(cause["message"])

    def _report(self, trouble: str) -> None:
        with self._changed:
            if self._trouble is not None:
                return
            self._trouble = trouble
        self._tell(trouble=trouble)
        self._on_trouble(trouble)

    def _pronounce(self, verdict: Verdict) -> None:
        self._tell(verdict=verdict.cause, global_step=verdict.global_step)
        with self._changed:  # to close a line on which something is still coming would cut off what was said
            self._changed.wait_for(lambda: self._gone >= set(self._lines), FAREWELL_SECONDS)
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()

    def _tell(self, **message: Any) -> None:
        for line in list(self._lines.values()):
            line.send(**message)


class Follower:
    """The side of every other node."""

    def __init__(self, topology: Topology) -> None:
        self._topology = topology
        self._verdict: Verdict | None = None
        self._has_ended = threading.Event()
        self._on_trouble: OnTrouble = _ignore
        self._line: Line

    def begin(self, count_start: CountStart, timeout_seconds: float) -> int:
        """Find node 0, then wait for its word; it has a deadline of its own for all the others."""
        deadline = time.monotonic() + timeout_seconds
        while True:
            line = Line(self._topology.connect(deadline))
            line.send(node=self._topology.node)
            message = line.receive()
            if message is not None and "start" in message:
                self._line = line
                return int(message["start"])
            line.close()
            if message is not None and message.get("verdict") is not None:
                raise error_of(message["verdict"])
            time.sleep(RETRY_SECONDS)  # node 0 has ended or is about to: its next start takes this node in

    def watch(self, on_trouble: OnTrouble) -> None:
        """From here on a thread listens."""
        self._on_trouble = on_trouble
        threading.Thread(target=self._listen, name="gang", daemon=True).start()

    def conclude(self, cause: ErrorRecord | None, decide: Decide) -> Verdict:
        """Node 0's verdict; without node 0 its own, which finds a result in the store as well as node 0 would."""
        self._on_trouble = _ignore
        self._line.send(ended=cause)
        self._has_ended.wait(VERDICT_SECONDS)
        self._line.close()
        if self._verdict is not None:
            return self._verdict
        return decide(first_cause([_lost(0)] if cause is None else [_lost(0), cause]))

    def _listen(self) -> None:
        trouble = "node 0 is gone"
        while (message := self._line.receive()) is not None:
            if "verdict" in message:
                self._verdict = Verdict(message["verdict"], message["global_step"])
                trouble = "node 0 has ended the run"
                break
            self._on_trouble(message["trouble"])
        self._has_ended.set()
        self._on_trouble(trouble)


def _ignore(trouble: str) -> None:
    """Before the ranks run and once they have ended."""


def _lost(node: int) -> ErrorRecord:
    return record_of(TrainingError(f"node {node} was lost: it is gone and did not say why"))
