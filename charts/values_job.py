"""The job document, and the launcher for those without Kubeflow Pipelines."""

from typing import Annotated, Any, Literal

from pydantic import Field, create_model

from charts.values_common import (
    LAUNCHER,
    Annotations,
    ChartSettings,
    Labels,
    Override,
    Resources,
    Scheduling,
    resources,
)
from radiffuse.cluster.job import TrainingJob
from radiffuse.cluster.names import ObjectName, Text, Variable
from radiffuse.cluster.quantities import Memory
from radiffuse.config import RunConfig, Settings

DECIDED = ("run", "namespace", "image", "require_digest", "image_pull_policy", "image_pull_secrets", "store")
"""Of a job document what the run, the launcher or other values decide."""
_TEMPLATE: dict[str, Any] = {
    name: (field.annotation, field) for name, field in TrainingJob.model_fields.items() if name not in DECIDED
}


_PART = r"(\.|\.?[^./\n][^/\n]*|\.\.[^/\n]+)"
"""Part of a path that does not lead out of where it begins: anything but `..`."""


class JobTemplate(create_model("JobTemplate", __base__=Settings, **_TEMPLATE)):  # type: ignore[misc]
    """A job document, so its keys are written as in one: where and on what a run is trained. docs/jobs.md explains.

    Image, pull secrets and store come from the values of those names.
    """


class SimulatedData(ChartSettings):
    """A cohort of simulated patients; the CT it is drawn from comes from the package index."""

    patients: int = Field(100, ge=1, description="How many; each has one to several images.")
    size_px: int = Field(96, ge=32, le=2048, description="Side of the images, pixels.")
    seed: int = Field(0, ge=0, le=2**31 - 1, description="Decides the patients.")
    processes: int = Field(2, ge=1, le=256, description="Processes that render.")


class ClaimedData(ChartSettings):
    """A data set in its published layout, on a volume."""

    name: ObjectName | None = Field(None, description="Existing PersistentVolumeClaim; it is only read.")
    path: str = Field(".", pattern=rf"^{_PART}(/+{_PART})*/*$", description="Folder or table in the volume.")


class StoredData(ChartSettings):
    """A data set that is in the store already."""

    uri: Annotated[str, Field(pattern=r"^s3://datasets/[^/]+/[0-9a-f]+$")] | None = Field(
        None, description="Its address, s3://datasets/name/digest."
    )


class JobData(ChartSettings):
    """What is learnt from."""

    source: Literal["simulated", "claim", "stored"] = Field("simulated", description="Which of the sections holds.")
    layout: Literal["chexpert", "mimic"] = Field("chexpert", description="Published layout to simulate or read.")
    simulated: SimulatedData = SimulatedData()
    claim: ClaimedData = ClaimedData()
    stored: StoredData = StoredData()


class JobConfig(ChartSettings):
    """What is learnt, and how."""

    preset: str | None = Field(
        "demo", pattern=r"^[a-z0-9-]+$", description="A preset of radiffuse; null where a document is given."
    )
    document: RunConfig | None = Field(
        None, description="A whole configuration, its keys written as in one; it wins over the preset."
    )
    overrides: tuple[Override, ...] = Field((), description="section.field=value, over either.")


class JobSteps(ChartSettings):
    """What each container may use; they run one after the other in one pod, which asks for the largest."""

    prepare: Resources = Field(resources("2", "8Gi"), description="Simulates, reads the data set, writes shards.")
    stage: Resources = Field(resources("1", "2Gi"), description="Puts the model into the store.")
    encode: Resources = Field(
        resources("2", "8Gi"),
        description="Encodes images; its pod holds a GPU that its limits name until training has ended.",
    )
    launch: Resources = Field(LAUNCHER, description="Sends the training job and watches it.")


class Job(ChartSettings):
    """The job document, always there as a ConfigMap; and a Job that prepares data, trains and waits for the end."""

    template: JobTemplate = Field(
        JobTemplate(), description="The job document itself; docs/jobs.md has a line for each of its keys."
    )
    enabled: bool = Field(False, description="Train now, without Kubeflow Pipelines.")
    config: JobConfig = JobConfig()
    data: JobData = JobData()
    model: str = Field(
        "tiny",
        pattern=r"^(tiny|s3://models/[^/]+/[0-9a-f]+|[\w.-]+/[\w.-]+@[0-9a-f]+)$",
        description="Where training starts: tiny, a Hugging Face id@commit, or s3://models/name/digest.",
    )
    create_buckets: bool = Field(
        True, description="Create buckets that the store lacks, in the Job and in `helm test`."
    )
    encode: bool = Field(True, description="Train on encoded images; false when the configuration trains the VAE.")
    env: dict[Variable, Text] = Field({}, description="More variables of all steps, such as PIP_INDEX_URL.")
    env_secrets: tuple[ObjectName, ...] = Field(
        (), description="Existing secrets whose entries become variables of all steps, such as HF_TOKEN."
    )
    steps: JobSteps = JobSteps()
    scratch: Memory | None = Field(None, description="Disk for data on its way; None: what the node has.")
    backoff_limit: int = Field(2, ge=0, le=100, description="Further attempts of the whole Job; each goes on.")
    deadline_seconds: int | None = Field(None, ge=1, description="Of the whole Job; None: each phase has its own.")
    ttl_seconds: int | None = Field(
        None, ge=0, description="A finished Job is deleted after that, and made again by an upgrade; None: stays."
    )
    pod_labels: Labels = Field({}, description="More labels of the launcher's pod.")
    pod_annotations: Annotations = Field({}, description="More annotations of the launcher's pod.")
    scheduling: Scheduling = Scheduling()
