"""What the API makes of our renderings: the operators' own schemas, unknown fields refused, nothing created."""

import json
from itertools import chain
from typing import Any

import pytest
import yaml

from tests.cluster.plane import ControlPlane
from tests.cluster.processes import CommandError
from tests.cluster_model.jobs import make_job
from tests.cluster_model.test_rendering import GOLDEN

pytestmark = pytest.mark.cluster

Object = dict[str, Any]
RECORDED = sorted(GOLDEN.glob("*.yaml"))
NAMESPACE = "renderings"


@pytest.fixture(scope="module", autouse=True)
def _namespace(control_plane: ControlPlane) -> None:
    """One for all, since nothing is created in it."""
    control_plane.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})


def dry_run(plane: ControlPlane, *objects: Object) -> list[str]:
    """Kinds of the objects that the API would create; raises CommandError with its words."""
    items = [each | {"metadata": each["metadata"] | {"namespace": NAMESPACE}} for each in objects]
    documents = "\n---\n".join(json.dumps(item) for item in items)
    command = ("create", "--dry-run=server", "--validate=strict", "-o", r"jsonpath={.kind}{'\n'}", "-f", "-")
    return plane.kubectl(*command, stdin=documents).split()


def test_every_recorded_rendering_is_accepted(control_plane: ControlPlane) -> None:
    manifests = [list(yaml.safe_load_all(path.read_text(encoding="utf-8"))) for path in RECORDED]
    kinds = [
        ["PyTorchJob"] if path.stem.startswith("pytorchjob") else ["TrainingRuntime", "TrainJob"] for path in RECORDED
    ]
    # In one request for all: each kubectl fetches the kinds' schemas anew.
    assert dry_run(control_plane, *chain(*manifests)) == list(chain(*kinds))


def test_a_field_that_trainer_does_not_have_would_be_refused(control_plane: ControlPlane) -> None:
    runtime, _ = make_job("backend=trainjob").to_manifests()
    runtime["spec"]["mlPolicy"]["torch"]["numProcPerNode"] = 32
    with pytest.raises(CommandError, match=r'unknown field "spec\.mlPolicy\.torch\.numProcPerNode"'):
        dry_run(control_plane, runtime)
