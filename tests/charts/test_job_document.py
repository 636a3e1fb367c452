"""The job document in the release's ConfigMap gives the very job that the same values give in Python."""

from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from charts.values import ChartValues
from charts.values_common import Image
from radiffuse import __version__
from radiffuse.cli import app
from radiffuse.cluster.job import TrainingJob, load_job
from radiffuse.cluster.owner import POD_NAME_VARIABLE
from tests.charts.pod_security import containers
from tests.charts.rendering import MODES, NAMESPACE, Object, of_kind, pod_specs, template, values_of
from tests.charts.schemas import custom_problems
from tests.cluster_model.jobs import RUN

pytestmark = [pytest.mark.charts, pytest.mark.parametrize("mode", MODES)]


def documents_of(mode: str) -> dict[str, str]:
    """Entries of the ConfigMap with the job document."""
    (found,) = [each for each in of_kind(template(mode=mode), "ConfigMap") if each["metadata"]["name"].endswith("-job")]
    return dict(found["data"])


def loaded(mode: str, folder: Path) -> TrainingJob:
    path = folder / "job.yaml"
    path.write_text(documents_of(mode)["job.yaml"], encoding="utf-8")
    return load_job(str(path), run=RUN)


def test_the_document_is_understood_as_text(mode: str, tmp_path: Path) -> None:
    """The release's notes give it to a pipeline so."""
    assert load_job(documents_of(mode)["job.yaml"].strip(), run=RUN) == loaded(mode, tmp_path)


def name_of(image: Image) -> str:
    registry = f"{image.registry}/" if image.registry else ""
    digest = f"@{image.digest}" if image.digest else ""
    return f"{registry}{image.repository}:{image.tag or __version__}{digest}"


def expected(mode: str) -> TrainingJob:
    """The job of a mode's values, made without the templates."""
    values = ChartValues.model_validate(values_of(mode))
    job = values.job.template.model_dump()
    kueue, full_name = values.kueue, values.fullname_override or "radiffuse"
    if kueue.local_queue.create and job["queue"] is None:
        job["queue"] = kueue.local_queue.name or f"{NAMESPACE}-{full_name}"
    if kueue.workload_priority.create and job["workload_priority"] is None:
        job["workload_priority"] = kueue.workload_priority.name or f"{NAMESPACE}-{full_name}"
    store = values.store.model_dump()
    if values.dev_store.enabled:
        store |= {"endpoint": f"{full_name}-store.{NAMESPACE}.svc:{values.dev_store.port}", "secure": False}
    decided = {
        "image": name_of(values.images.train),
        "image_pull_policy": values.images.train.pull_policy,
        "image_pull_secrets": values.image_pull_secrets,
        "require_digest": values.images.require_digest,
        "labels": values.common_labels | job["labels"],
        "store": store,
    }
    return TrainingJob.model_validate(job | decided | {"run": RUN})


def test_the_document_gives_the_job_that_the_values_give(mode: str, tmp_path: Path) -> None:
    assert loaded(mode, tmp_path).to_manifests() == expected(mode).to_manifests()


def test_that_job_is_valid_for_its_operator(mode: str, tmp_path: Path) -> None:
    manifests = loaded(mode, tmp_path).to_manifests()
    assert [custom_problems(each) for each in manifests] == [[] for _ in manifests]


def test_the_launcher_says_which_pod_it_is(mode: str) -> None:
    """The batch Job that its pod belongs to owns the training job."""
    for launcher in [each for spec in launchers(mode) for each in containers(spec) if each["name"] == "launcher"]:
        (variable,) = [entry for entry in launcher["env"] if "fieldRef" in entry.get("valueFrom", {})]
        assert variable == {
            "name": POD_NAME_VARIABLE,
            "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}},
        }


def launchers(mode: str) -> list[Object]:
    return list(pod_specs(of_kind(template(mode=mode), "Job")).values())


def test_each_step_runs_a_verb_with_options_that_it_has(mode: str) -> None:
    for spec in launchers(mode):
        for container in containers(spec):
            verb, *arguments = container["args"]
            command = get_command(app).commands[verb]
            while hasattr(command, "commands"):
                command = command.commands[arguments.pop(0)]
            command.make_context(verb, [str(each) for each in arguments])


def test_the_ci_values_are_a_document_of_yaml(mode: str) -> None:
    assert isinstance(yaml.safe_load(MODES[mode].read_text(encoding="utf-8")), dict)
