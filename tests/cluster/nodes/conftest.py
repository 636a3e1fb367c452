"""The fixtures of the node tests: a control plane with two real nodes, MinIO, Prometheus, and runs to look at."""

import os
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from images.recipe import NAMES, debian_image
from tests.cluster.isolation import ADDRESS, ROOT, is_isolated
from tests.cluster.nodes.cluster import RealNodes
from tests.cluster.nodes.images import image_of_run, pause_image
from tests.cluster.nodes.minio import Minio
from tests.cluster.nodes.prometheus import Prometheus
from tests.cluster.nodes.record import Record
from tests.cluster.nodes.training_run import NODES, SETTINGS, TrainingRun, submit
from tests.cluster.plane import ControlPlane
from tests.cluster.run import LOGS
from tests.training import Inputs, losses, plan_run, publish_inputs, published_records, run_ranks

RECORD = ROOT / "out" / "nodes-run.md"


@pytest.fixture(scope="session")
def record() -> Iterator[Record]:
    """What this run shows; written to out/nodes-run.md at its end."""
    record = Record()
    yield record
    record.write(RECORD)


@pytest.fixture(scope="session")
def control_plane(record: Record) -> Iterator[ControlPlane]:
    """As of all cluster tests, but that its pods' init container is an image that real nodes have."""
    if not is_isolated():
        pytest.skip("nodes need namespaces of their own; run `make cluster-test-node` as root")
    start = time.monotonic()
    # Left to be removed from outside: in here, pods' volumes are still mounted below it.
    folder = Path(tempfile.mkdtemp(prefix="plane-"))
    with ControlPlane(folder, Path(os.environ[LOGS]), debian_image().name) as plane:
        record.figure("control plane up", f"{time.monotonic() - start:.0f} s")
        yield plane


@pytest.fixture(scope="session")
def nodes(control_plane: ControlPlane, record: Record) -> Iterator[RealNodes]:
    """Two nodes that hold our images."""
    images = [pause_image(), debian_image(), *(image_of_run(name) for name in NAMES)]
    with RealNodes(control_plane, images) as nodes:
        record.figure("two nodes Ready", f"{nodes.start_seconds:.0f} s")
        yield nodes


@pytest.fixture(scope="session")
def minio(control_plane: ControlPlane) -> Iterator[Minio]:
    """MinIO where pods reach it."""
    with Minio(control_plane.folder / "minio", control_plane.log_folder, f"{ADDRESS}:9000") as server:
        yield server


@pytest.fixture(scope="session")
def prometheus(control_plane: ControlPlane) -> Iterator[Prometheus]:
    """Prometheus, which scrapes every training pod."""
    with Prometheus(control_plane) as server:
        yield server


@pytest.fixture(scope="session")
def inputs(minio: Minio, tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    """The tiny model and data, in MinIO."""
    return publish_inputs(minio.store, tmp_path_factory.mktemp("inputs"))


@pytest.fixture(scope="session")
def laptop_losses(inputs: Inputs, minio: Minio, tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    """Of the run that every test repeats, trained by as many processes on this machine, without a cluster."""
    plan = plan_run(inputs, "laptop", **SETTINGS)
    folder = tmp_path_factory.mktemp("laptop")
    environment = minio.environment | {"RADIFFUSE_CACHE": str(folder / "cache")}
    assert run_ranks(plan, NODES, folder, environment) == [0] * NODES
    return losses(published_records(minio.store, plan))


@pytest.fixture
def start_run(
    control_plane: ControlPlane, nodes: RealNodes, namespace: str, minio: Minio, inputs: Inputs
) -> Callable[..., TrainingRun]:
    """Submits the run under a name of its own to the test's namespace."""

    def start(**settings: object) -> TrainingRun:
        plan = plan_run(inputs, f"run-{secrets.token_hex(3)}", **(SETTINGS | settings))
        return submit(control_plane, namespace, minio, plan, image_of_run("train").name)

    return start
