"""The one model of a training job on Kubernetes; what can be derived from nodes and GPUs is derived, the rest checked.

A job document says where and on what a run is trained, never what is learnt: that is the run's plan. The same plan
gives the same job name, whatever the topology.
"""

from decimal import Decimal
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from radiffuse import __version__
from radiffuse.cluster.contradictions import contradictions
from radiffuse.cluster.names import DnsLabel, Image, LabelKey, LabelValue, Namespace, ObjectName, Text, Variable
from radiffuse.cluster.pytorchjob import render_pytorchjob
from radiffuse.cluster.quantities import Cores, Memory, Quantity, amount, cores, memory
from radiffuse.cluster.sections import (
    LONGEST_SECONDS,
    MOST_USER_ID,
    Deadlines,
    RunFacts,
    StoreAccess,
    Toleration,
    Topology,
)
from radiffuse.cluster.trainjob import render_trainjob
from radiffuse.config import PRESETS, Settings, documents_in, read_document, validated
from radiffuse.errors import ConfigError
from radiffuse.train_plan import BatchPlan, plan_batches

JOB_PRESETS = PRESETS / "jobs"
MASTER_PORTS = {"pytorchjob": 23456, "trainjob": 29500}
"""The operators' own; Trainer knows no other."""
EXIT_SECONDS = 10
"""Of the grace period, kept for the worker's own end after the ranks have ended or were killed."""


class TrainingJob(Settings):
    """A run's pods: how many, where, with what, and how long each phase may last."""

    run: RunFacts = Field(description="What the run's plan decides.")
    backend: Literal["pytorchjob", "trainjob"] = Field(
        "pytorchjob", description="Kind of job: PyTorchJob (Training Operator 1.9) or TrainJob (Trainer 2.3)."
    )
    namespace: Namespace | None = Field(None, description="Where the job runs; None: where its launcher runs.")

    nodes: int = Field(2, ge=1, le=1024, description="Pods, each on a node of its own.")
    gpus_per_node: int = Field(32, ge=0, le=1024, description="GPUs of each pod; 0 trains on CPUs.")
    gpu_resource: LabelKey = Field("nvidia.com/gpu", description="Resource name, and the taint's key, of the GPUs.")
    processes_per_node: int | None = Field(
        None, ge=1, le=1024, description="Processes of each pod; None: one per GPU. To be given when there is no GPU."
    )
    cpu_per_process: Cores | None = Field(
        None, description="CPU cores of each process, requested and the limit; None: 2, and 1 per loader thread."
    )
    memory_per_process: Memory = Field("16Gi", description="Memory of each process, requested and the limit.")
    shared_memory_per_process: Memory = Field(
        "512Mi", description="Of that, what each process may hold in /dev/shm, where NCCL and gloo exchange data."
    )
    scratch: Memory | None = Field(
        None, description="Disk of each pod for its cache, requested and the limit; None: what the node has."
    )
    extra_resources: dict[LabelKey, Quantity] = Field({}, description="More of each pod, such as rdma/hca: 1.")

    image: Image = Field(f"radiffuse-train:{__version__}", description="Of the training pods.")
    require_digest: bool = Field(False, description="Refuse an image that is named by tag alone.")
    image_pull_policy: Literal["IfNotPresent", "Always", "Never"] = Field("IfNotPresent", description="Of the image.")
    image_pull_secrets: tuple[ObjectName, ...] = Field((), description="Existing secrets for the image's registry.")
    service_account: ObjectName | None = Field(
        None, description="Of the pods, which use no token; None: the namespace's default."
    )
    user_id: int = Field(20002, ge=1, le=MOST_USER_ID, description="Numeric user that the pods run as; never root.")
    runtime_class: ObjectName | None = Field(None, description="RuntimeClass of the pods; None: the cluster's default.")
    store: StoreAccess = StoreAccess()
    env: dict[Variable, Text] = Field({}, description="More environment variables, never secrets.")
    labels: dict[LabelKey, LabelValue] = Field({}, description="More labels of the job and its pods.")
    annotations: dict[LabelKey, Text] = Field({}, description="More annotations of the job and its pods.")

    queue: DnsLabel | None = Field(None, description="Kueue LocalQueue; None: no queue.")
    workload_priority: ObjectName | None = Field(None, description="Kueue WorkloadPriorityClass; None: the queue's.")
    topology: Topology | None = Field(None, description="Kueue's placement of the pods together; None: anywhere.")
    node_selector: dict[LabelKey, LabelValue] = Field({}, description="Labels that the nodes must have.")
    tolerations: tuple[Toleration, ...] = Field((), description="Taints borne beside that of the GPUs.")
    priority_class: ObjectName | None = Field(None, description="PriorityClass of the pods; None: the default one.")
    node_lost_seconds: int = Field(
        60, ge=0, le=LONGEST_SECONDS, description="From a node's silence until its pod is given up, seconds."
    )

    rendezvous_port: int | None = Field(
        None, ge=1024, le=65534, description="Of the master, and the next for the pods' own talk; None: the operator's."
    )
    rendezvous_timeout_seconds: int = Field(
        600, ge=10, le=LONGEST_SECONDS, description="A pod waits that long for the master's port."
    )
    network_interface: str | None = Field(
        None, pattern=r"^[a-zA-Z0-9_.-]{1,15}$", description="Of NCCL's and gloo's sockets; None: they find it."
    )
    nccl_ib_hca: str | None = Field(
        None,
        pattern=r"^[=^]{0,2}[A-Za-z0-9_:,-]+$",
        description="InfiniBand adapters, NCCL_IB_HCA; None: NCCL finds them.",
    )
    nccl_debug: Literal["VERSION", "WARN", "INFO"] = Field("WARN", description="What NCCL logs.")

    checkpoint_seconds: int = Field(
        120,
        ge=1,
        le=LONGEST_SECONDS,
        description="Longest that saving a checkpoint may take: `upload_seconds` in the log, doubled.",
    )
    shutdown_margin_seconds: int = Field(
        30,
        ge=EXIT_SECONDS + 5,
        le=LONGEST_SECONDS,
        description="Beside the checkpoint: the step in progress and the processes' ends.",
    )
    grace_period_seconds: int | None = Field(
        None,
        ge=1,
        le=LONGEST_SECONDS,
        description="From SIGTERM to SIGKILL; None: checkpoint_seconds and shutdown_margin_seconds.",
    )
    max_restarts: int = Field(10, ge=0, le=1000, description="Restarts of the whole gang before the job fails.")
    max_starts: int = Field(5, ge=1, le=1000, description="Starts without a newer checkpoint before the run gives up.")
    linger_seconds: int = Field(20, ge=0, le=600, description="A finished pod stays so long for a last scrape.")
    metrics_port: int = Field(9090, ge=1024, le=65535, description="Prometheus metrics of all processes of a pod.")
    deadlines: Deadlines = Deadlines()

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if problems := list(contradictions(self)):
            raise ValueError("; ".join(problems))
        return self

    @property
    def name(self) -> str:
        """Of the job, and of whatever is made for it: the same for the same plan."""
        return f"{self.run.name}-{self.run.digest[:8]}"

    @property
    def plan_uri(self) -> str:
        """Where the launcher leaves the plan for the pods."""
        return f"{self.checkpoints_uri}/plan.json"

    @property
    def checkpoints_uri(self) -> str:
        """Where the run's checkpoints, records and heartbeat are."""
        return f"s3://checkpoints/{self.run.name}-{self.run.digest}"

    @property
    def processes(self) -> int:
        """Of each pod."""
        return self.gpus_per_node if self.processes_per_node is None else self.processes_per_node

    @property
    def world_size(self) -> int:
        """Processes that train together."""
        return self.nodes * self.processes

    @property
    def batches(self) -> BatchPlan:
        """How the run's global batch is cut over the processes."""
        return plan_batches(self.run.total_batch_size, self.run.train_batch_size, self.world_size)

    @property
    def cpu(self) -> str:
        """CPU of each pod, as a quantity."""
        each = (
            Decimal(2 + self.run.dataloader_workers) if self.cpu_per_process is None else amount(self.cpu_per_process)
        )
        return cores(each * self.processes)

    @property
    def memory(self) -> str:
        """Memory of each pod, /dev/shm included, as a quantity."""
        return memory(amount(self.memory_per_process) * self.processes)

    @property
    def shared_memory(self) -> str:
        """Size of each pod's /dev/shm, as a quantity."""
        return memory(amount(self.shared_memory_per_process) * self.processes)

    @property
    def master_port(self) -> int:
        """Where the processes meet."""
        return MASTER_PORTS[self.backend] if self.rendezvous_port is None else self.rendezvous_port

    @property
    def gang_port(self) -> int:
        """Where the pods tell each other that they are there, and how they ended: next to the master's."""
        return self.master_port + 1

    @property
    def grace_seconds(self) -> int:
        """From SIGTERM to the kubelet's SIGKILL."""
        if self.grace_period_seconds is None:
            return self.checkpoint_seconds + self.shutdown_margin_seconds
        return self.grace_period_seconds

    @property
    def worker_grace_seconds(self) -> int:
        """From SIGTERM to the worker's own SIGKILL for ranks that have not ended."""
        return self.grace_seconds - EXIT_SECONDS

    def to_manifests(self) -> list[dict[str, Any]]:
        """What is sent to the cluster, in the order in which it has to exist; the last one is the job itself."""
        if self.backend == "trainjob":
            return render_trainjob(self)
        return [render_pytorchjob(self)]


def job_preset_names() -> list[str]:
    """Names that `load_job` takes in place of a path."""
    return documents_in(JOB_PRESETS)


def load_job(source: str, overrides: tuple[str, ...] = (), **derived: Any) -> TrainingJob:
    """Resolve a job from a preset's name, a YAML file's path or a JSON document, with `section.field=value` over it.

    derived: settings that the caller decides, `run` above all; a document must not contain them. Raises ConfigError
    that names each setting that is wrong, what was found and what is allowed.
    """
    document = read_document(source, JOB_PRESETS, overrides, "--set-job")
    if decided := sorted(set(document) & set(derived)):
        raise ConfigError(f"{', '.join(decided)}: not for a job document to say, the run decides it; leave it out")
    return validated(TrainingJob, document | derived)
