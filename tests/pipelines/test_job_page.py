"""docs/jobs.md and the file that the Training Operator is given."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.job_page import VARIABLES, job_page
from radiffuse.cluster.job import TrainingJob, load_job
from radiffuse.cluster.sections import Deadlines, StoreAccess, Toleration, Topology
from tests.cluster_model.jobs import RUN

ROOT = Path(__file__).parent.parent.parent
INIT_CONTAINER = ROOT / "manifests" / "training-operator" / "init-container.yaml"


@pytest.fixture(scope="module")
def page() -> str:
    return job_page(INIT_CONTAINER)


def test_the_page_tells_of_every_setting(page: str) -> None:
    names = {
        name for model in (TrainingJob, StoreAccess, Topology, Toleration, Deadlines) for name in model.model_fields
    }
    assert {name for name in names - {"run"} if f"`{name}`" not in page} == set()


def test_every_setting_says_what_it_means() -> None:
    fields = TrainingJob.model_fields | StoreAccess.model_fields | Topology.model_fields | Deadlines.model_fields
    sections = {"store", "deadlines"}  # their own fields say it
    assert [name for name, field in fields.items() if field.description is None and name not in sections] == []


def test_the_page_tells_of_every_variable(page: str) -> None:
    assert all(f"| `{name}` | {meaning} |" in page for name, meaning in VARIABLES.items())


def test_the_example_of_a_job_is_one(page: str) -> None:
    example = page.split("```yaml\n")[1].split("```")[0].replace("sha256:...", "sha256:" + "0" * 64)
    assert load_job(yaml.safe_dump(yaml.safe_load(example), default_flow_style=True, width=10**6), run=RUN).queue


def test_the_init_container_is_what_restricted_pod_security_asks_for() -> None:
    (container,) = init_container()
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert container["resources"]["limits"] == container["resources"]["requests"]  # the worker's pod stays Guaranteed


def test_the_init_container_waits_for_a_name_and_not_for_ever() -> None:
    assert [run_init_container(name) for name in ("localhost", "no-such-master.invalid")] == [0, 1]


def run_init_container(master: str) -> int:
    (container,) = init_container(master)
    return subprocess.run(container["command"], capture_output=True, timeout=30, check=False).returncode


def init_container(master: str = "localhost") -> list[dict[str, Any]]:
    text = INIT_CONTAINER.read_text()
    for name, value in {"InitContainerImage": "a:1", "MasterAddr": master, "MaxTries": "1"}.items():
        text = text.replace(f"{{{{.{name}}}}}", value)
    containers: list[dict[str, Any]] = yaml.safe_load(text)
    return containers
