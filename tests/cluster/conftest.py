"""The fixtures of the cluster tests; README.md here says what they offer."""

import os
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.fake_nodes import GpuNodes
from tests.cluster.isolation import is_isolated
from tests.cluster.plane import ControlPlane
from tests.cluster.processes import wait_until
from tests.cluster.trainer import Trainer

JOBS = (
    ("kubeflow.org/v1", "pytorchjobs"),
    ("trainer.kubeflow.org/v1alpha1", "trainjobs"),
    ("batch/v1", "jobs"),
    ("v1", "pods"),
)
EMPTY_SECONDS = 180.0


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep this cluster's share of the tests, where several run them; those that need Trainer's webhooks come last."""
    late = {item.path for item in items if "trainer" in getattr(item, "fixturenames", ())}
    items.sort(key=lambda item: item.path in late)
    number, _, count = os.environ.get("RADIFFUSE_CLUSTER_SHARD", "0/1").partition("/")
    own = _shares(items, int(count))[int(number)]
    others = [item for item in items if item not in own]
    items[:] = [item for item in items if item in own]
    if others:
        config.hook.pytest_deselected(items=others)


def _shares(items: list[pytest.Item], count: int) -> list[set[pytest.Item]]:
    """As many tests for each, neighbours apart since they cost the same; what is slow to start, one cluster starts."""
    shares: list[set[pytest.Item]] = [set() for _ in range(count)]
    for fixture, number in {"trainer": -1, "every_api": 0}.items():
        shares[number] |= {item for item in items if fixture in getattr(item, "fixturenames", ())}
    others = [item for item in items if not any(item in share for share in shares)]
    room = [max(1.0, len(items) / count - len(share)) for share in shares]
    taken = [0] * count
    for item in others:
        number = min(range(count), key=lambda each: taken[each] / room[each])
        shares[number].add(item)
        taken[number] += 1
    return shares


@pytest.fixture(scope="session")
def control_plane() -> Iterator[ControlPlane]:
    """A running control plane; its logs outlive it where the runner said so."""
    if not is_isolated():
        pytest.skip("a cluster needs a network namespace of its own; run `make cluster-test`")
    with tempfile.TemporaryDirectory(prefix="plane-") as folder:
        logs = Path(os.environ.get("RADIFFUSE_CLUSTER_LOGS") or Path(folder) / "logs")
        logs.mkdir(exist_ok=True)
        with ControlPlane(Path(folder), logs) as plane:
            yield plane


@pytest.fixture(scope="session")
def gpu_nodes(control_plane: ControlPlane) -> Iterator[GpuNodes]:
    """Two fake nodes of 32 GPUs."""
    with GpuNodes(control_plane) as nodes:
        yield nodes


@pytest.fixture(scope="session")
def trainer(control_plane: ControlPlane) -> Iterator[Trainer]:
    """Trainer and JobSet, from the first test that asks for them to the last of all."""
    with Trainer(control_plane) as running:
        yield running


@pytest.fixture
def namespace(control_plane: ControlPlane) -> Iterator[str]:
    """A fresh namespace under restricted Pod Security, empty again before the next test starts."""
    name = f"test-{secrets.token_hex(4)}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    control_plane.apply(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}},
        # Its controller would make it too, but lets a test wait that comes right after a restart of the API server.
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": name}},
    )
    yield name
    # The namespace itself stays: deleting one costs the controllers more than the rest of a small test.
    api = control_plane.api
    found = [api.delete_all(*kind, name) for kind in JOBS]
    if any(found):
        wait_until(lambda: not api.items("v1", "pods", name), EMPTY_SECONDS, f"no pods are left in {name}")
