"""The sections of a job document, and what a job takes from the run that it trains."""

from typing import Literal, Self

from pydantic import Field, model_validator

from radiffuse.cluster.names import DnsLabel, HostAndPort, LabelKey, LabelValue, ObjectName, SecretEntry
from radiffuse.config import Settings
from radiffuse.train_plan import TrainPlan

LONGEST_SECONDS = 30 * 86400
"""Of any setting; more is a slip of the keyboard, and far more overflows what Kubernetes counts in."""
MOST_USER_ID = 2**31 - 1


class RunFacts(Settings):
    """What the job takes from its run; the run's plan decides it, never a job document."""

    name: DnsLabel = Field(description="The run's name.")
    digest: str = Field(pattern=r"^[0-9a-f]{16}$", description="The plan's digest.")
    total_batch_size: int = Field(ge=1, description="Images per optimizer step, over all processes.")
    train_batch_size: int = Field(ge=1, description="Images per process and micro-step, at most.")
    dataloader_workers: int = Field(0, ge=0, description="Loader threads per process.")

    @classmethod
    def of(cls, plan: TrainPlan) -> Self:
        """The facts of a plan."""
        return cls(
            name=plan.name,
            digest=plan.digest,
            total_batch_size=plan.settings.total_batch_size,
            train_batch_size=plan.settings.train_batch_size,
            dataloader_workers=plan.settings.dataloader_workers,
        )


class StoreAccess(Settings):
    """Where the pods find the object store: the keys of a secret that exists in the job's namespace."""

    secret: ObjectName = Field("radiffuse-store", description="Existing secret that holds the entries below.")
    access_key_entry: SecretEntry = Field("MINIO_ACCESS_KEY", description="Its entry with the access key.")
    secret_key_entry: SecretEntry = Field("MINIO_SECRET_KEY", description="Its entry with the secret key.")
    endpoint_entry: SecretEntry = Field(
        "MINIO_ENDPOINT", description="Its entry with host:port, if `endpoint` is null."
    )
    secure_entry: SecretEntry = Field(
        "MINIO_SECURE", description="Its entry that says whether to speak TLS, if `secure` is null; it may lack it."
    )
    endpoint: HostAndPort | None = Field(None, description="host:port of the store; None: the secret's entry.")
    secure: bool | None = Field(None, description="Speak TLS; None: the secret's entry, or true where it has none.")
    ca_secret: ObjectName | None = Field(
        None, description="Existing secret with the PEM certificate of the store's authority; None: the system's."
    )
    ca_entry: SecretEntry = Field("ca.crt", description="Its entry with the certificate.")


class Topology(Settings):
    """Where Kueue places the pods relative to each other."""

    level: LabelKey = Field(description="Node label of the domain, such as cloud.provider.com/topology-rack.")
    required: bool = Field(True, description="Wait for one domain that holds all pods; false: only prefer one.")


class Toleration(Settings):
    """A taint that the pods bear."""

    key: LabelKey | None = Field(None, description="The taint's key; None: every taint.")
    value: LabelValue | None = Field(None, description="The taint's value; None: any.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        None, description="The taint's effect; None: any."
    )

    @model_validator(mode="after")
    def _value_has_key(self) -> Self:
        if self.value is not None and self.key is None:
            raise ValueError("a toleration with a value needs the taint's key")
        return self


class Deadlines(Settings):
    """How long each phase may last; past it the launcher ends the job with the last state seen. Seconds."""

    queued_seconds: int = Field(86400, ge=1, le=LONGEST_SECONDS, description="In a Kueue queue, until it is admitted.")
    admitted_seconds: int = Field(120, ge=1, le=LONGEST_SECONDS, description="Until the operator has made all pods.")
    scheduled_seconds: int = Field(3600, ge=1, le=LONGEST_SECONDS, description="Until every pod has a node.")
    pulled_seconds: int = Field(
        1800, ge=1, le=LONGEST_SECONDS, description="From a node to a running container, image included."
    )
    started_seconds: int = Field(1200, ge=1, le=LONGEST_SECONDS, description="From running to the first heartbeat.")
    heartbeat_seconds: int = Field(
        1200, ge=60, le=LONGEST_SECONDS, description="Without an optimizer step or a checkpoint's progress."
    )
    cancelled_seconds: int = Field(60, ge=1, le=LONGEST_SECONDS, description="For the operator to obey a cancellation.")
