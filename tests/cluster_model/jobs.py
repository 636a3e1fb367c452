"""Training jobs for tests: any topology, always the same run."""

from typing import Any

from radiffuse.cluster.job import TrainingJob, load_job
from radiffuse.cluster.sections import RunFacts

RUN = RunFacts(name="roentgen-1k", digest="0123456789abcdef", total_batch_size=256, train_batch_size=8)
TOPOLOGIES = ((1, 1), (1, 8), (2, 32), (4, 16), (8, 8))


def make_job(*overrides: str, run: RunFacts = RUN) -> TrainingJob:
    """The default job of that run with `section.field=value` over it."""
    return load_job("2x32", overrides, run=run)


def pod_templates(job: TrainingJob) -> list[dict[str, Any]]:
    """One template for each set of equal pods that the job asks for."""
    *_, manifest = manifests = job.to_manifests()
    if manifest["kind"] == "PyTorchJob":
        return [replicas["template"] for replicas in manifest["spec"]["pytorchReplicaSpecs"].values()]
    return [job["template"]["spec"]["template"] for job in manifests[0]["spec"]["template"]["spec"]["replicatedJobs"]]


def container(template: dict[str, Any]) -> dict[str, Any]:
    """The container that trains."""
    (only,) = template["spec"]["containers"]
    return dict(only)


def plain_env(template: dict[str, Any]) -> dict[str, str]:
    """Variables whose value stands in the manifest."""
    return {entry["name"]: entry["value"] for entry in container(template)["env"] if "value" in entry}
