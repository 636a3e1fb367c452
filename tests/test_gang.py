"""The line between the workers of a gang, over loopback in this process: together at the start, together at the end."""

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import pytest

from radiffuse.errors import ConfigError, GaveUp, Preempted, TrainingError
from radiffuse.gang import Alone, Follower, Lead, Verdict, join_gang
from radiffuse.rank import ErrorRecord, record_of
from radiffuse.topology import Topology
from tests.workers import free_ports, wait_until


class Node(NamedTuple):
    """A side of the gang, and the trouble that it was told of."""

    gang: Lead | Follower
    troubles: list[str]


def topologies(nodes: int) -> list[Topology]:
    """As many places on free ports."""
    port = free_ports(2)
    return [Topology(nodes, 1, node, "127.0.0.1", port) for node in range(nodes)]


def begin_all(nodes: int) -> list[Node]:
    """A gang that has begun its seventh start."""
    gangs = [join_gang(topology) for topology in topologies(nodes)]
    with ThreadPoolExecutor(nodes) as pool:
        begun = [pool.submit(gang.begin, lambda: 7, 20) for gang in gangs]
        assert [future.result() for future in begun] == [7] * nodes
    members = [Node(gang, []) for gang in gangs]
    for member in members:
        member.gang.watch(member.troubles.append)
    return members


def conclude_all(members: list[Node], causes: list[Exception | None], is_done: bool = False) -> list[Verdict]:
    """What each is told when its ranks have ended so; the run's result is or is not there."""

    def decide(cause: ErrorRecord | None) -> Verdict:
        return Verdict(None if is_done else cause, 40)

    with ThreadPoolExecutor(len(members)) as pool:
        records = [None if cause is None else record_of(cause) for cause in causes]
        verdicts: list[Future[Verdict]] = [
            pool.submit(member.gang.conclude, record, decide) for member, record in zip(members, records, strict=True)
        ]
        return [verdict.result() for verdict in verdicts]


def test_all_end_well_when_the_result_is_there() -> None:
    assert conclude_all(begin_all(3), [None] * 3, is_done=True) == [Verdict(None, 40)] * 3


def test_one_nodes_cause_is_everyones_and_an_echo_of_it_is_not() -> None:
    echo = RuntimeError("Connection closed by peer")
    verdicts = conclude_all(begin_all(3), [echo, ConfigError("no such method"), echo])
    assert {verdict.cause["message"] for verdict in verdicts if verdict.cause} == {"no such method"}
    assert {verdict.global_step for verdict in verdicts} == {40}


def test_a_preemption_of_one_node_is_what_all_end_of() -> None:
    verdicts = conclude_all(begin_all(2), [RuntimeError("Connection closed by peer"), Preempted("stopped")])
    assert [verdict.cause and verdict.cause["kind"] for verdict in verdicts] == ["Preempted"] * 2


def test_a_node_whose_ranks_fail_late_is_done_when_the_result_is_there() -> None:
    assert conclude_all(begin_all(2), [None, RuntimeError("at exit")], is_done=True) == [Verdict(None, 40)] * 2


def test_the_failure_of_one_node_is_told_to_all_others_at_once() -> None:
    members = begin_all(3)
    told = threading.Event()
    members[2].gang.watch(lambda trouble: told.set())  # listened to from here on as well
    with ThreadPoolExecutor(1) as pool:
        failing = pool.submit(
            members[1].gang.conclude, record_of(TrainingError("rank 1 was killed")), lambda cause: Verdict(cause, 0)
        )
        assert told.wait(20)
        wait_until(lambda: bool(members[0].troubles), lambda: "node 0 was not told", 20)  # it tells the others first
        conclude_all([members[0], members[2]], [RuntimeError("echo")] * 2)  # who concludes is told no more
        verdict = failing.result()
    assert members[0].troubles == ["rank 1 was killed"]
    assert verdict.cause is not None
    assert verdict.cause["message"] == "rank 1 was killed"


def test_a_node_that_vanishes_is_trouble_and_the_cause() -> None:
    lead, follower = begin_all(2)
    told = threading.Event()
    lead.gang.watch(lambda trouble: (lead.troubles.append(trouble), told.set()))
    follower.gang._line.close()  # as the kernel does when the worker is killed
    assert told.wait(20)
    verdict = lead.gang.conclude(record_of(RuntimeError("echo")), lambda cause: Verdict(cause, 5))
    assert verdict.cause is not None
    assert verdict.cause["message"] == lead.troubles[0] == "node 1 was lost: it is gone and did not say why"


def test_without_node_0_a_node_looks_for_the_result_itself() -> None:
    lead, follower = begin_all(2)
    lead.gang._lines[1].close()
    wait_until(lambda: follower.troubles == ["node 0 is gone"], lambda: str(follower.troubles), 30)
    verdict = follower.gang.conclude(None, lambda cause: Verdict(cause, 0))
    assert verdict.cause is not None
    assert "node 0 was lost" in verdict.cause["message"]


def test_what_node_0_finds_before_the_start_is_everyones_end() -> None:
    lead, follower = (join_gang(topology) for topology in topologies(2))

    def give_up() -> int:
        raise GaveUp("5 starts in a row")

    with ThreadPoolExecutor(2) as pool:
        ends = [pool.submit(lead.begin, give_up, 20), pool.submit(follower.begin, lambda: 0, 20)]
        for end in ends:
            with pytest.raises(GaveUp, match="5 starts in a row"):
                end.result()


def test_nodes_that_do_not_come_are_named_after_the_deadline() -> None:
    lead = join_gang(topologies(3)[0])
    with pytest.raises(TrainingError, match=r"of 3 nodes \[1, 2\] did not come within 0.2 s"):
        lead.begin(lambda: 1, 0.2)


def test_a_node_0_that_never_listens_is_reported_after_the_deadline() -> None:
    with pytest.raises(TrainingError, match=r"node 0 did not listen at 127.0.0.1:\d+ within 1 s"):
        join_gang(topologies(2)[1]).begin(lambda: 1, 1)


def test_a_node_that_was_started_again_waits_for_the_next_start_of_node_0() -> None:
    places = topologies(2)
    first = Lead(places[0])
    with ThreadPoolExecutor(2) as pool:
        begun = pool.submit(Follower(places[1]).begin, lambda: 0, 20)
        assert first.begin(lambda: 1, 20) == begun.result() == 1
        again = pool.submit(Follower(places[1]).begin, lambda: 0, 20)
        assert first.conclude(None, lambda cause: Verdict(None, 1)) == Verdict(None, 1)
        second = Lead(places[0])
        assert second.begin(lambda: 2, 20) == again.result() == 2


def test_one_node_is_a_gang_too() -> None:
    gang = join_gang(Topology(1, 2, 0, "127.0.0.1", 1))
    assert isinstance(gang, Alone)
    assert gang.begin(lambda: 3, 0) == 3
    assert gang.conclude(None, lambda cause: Verdict(cause, 9)) == Verdict(None, 9)


def test_the_place_of_a_pod_is_read_from_what_the_operators_set(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {
        "NNODES": "2",
        "NPROC_PER_NODE": "32",
        "NODE_RANK": "1",
        "MASTER_PORT": "23456",
        "MASTER_ADDR": "a-master-0",
    }
    for name, value in values.items():
        monkeypatch.setenv(f"PET_{name}", value)
    place = Topology.from_environment()
    assert place == Topology(2, 32, 1, "a-master-0", 23456)
    assert place.world_size == 64
    monkeypatch.setenv("PET_NPROC_PER_NODE", "gpu")
    with pytest.raises(ConfigError, match="PET_NPROC_PER_NODE is 'gpu' and must be a number; a PyTorchJob"):
        Topology.from_environment()
