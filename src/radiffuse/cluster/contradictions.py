"""Settings of a job that are each fine and do not go together; each is one sentence that says what would."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from radiffuse.cluster.environment import plain_environment
from radiffuse.cluster.names import LABEL_LENGTH, has_digest
from radiffuse.cluster.pod import pod_annotations, pod_labels
from radiffuse.cluster.quantities import amount
from radiffuse.errors import ConfigError

if TYPE_CHECKING:
    from radiffuse.cluster.job import TrainingJob


def contradictions(job: "TrainingJob") -> Iterator[str]:
    """All of them; those about processes only when it is known how many there are."""
    if job.gpus_per_node == 0 and job.processes_per_node is None:
        yield "gpus_per_node is 0, so processes_per_node must say how many processes train on a node's CPUs"
    else:
        yield from _processes(job)
        yield from _environment(job)
    for check in (_names, _image, _resources, _ports, _times, _queue, _metadata):
        yield from check(job)


def _processes(job: "TrainingJob") -> Iterator[str]:
    if job.gpus_per_node and job.processes % job.gpus_per_node:
        yield (
            f"processes_per_node {job.processes} must be gpus_per_node {job.gpus_per_node} or a multiple of it, so that"
            " no GPU idles"
        )
    try:
        _ = job.batches
    except ConfigError as error:
        yield f"{job.nodes} nodes x {job.processes} processes = {job.world_size}: {error}{_that_divide(job)}"


def _that_divide(job: "TrainingJob") -> str:
    total = job.run.total_batch_size
    if total % job.world_size == 0:
        return ""
    fitting = [number for number in range(1, total + 1) if total % number == 0]
    nearest = sorted(fitting, key=lambda number: abs(number - job.world_size))[:5]
    return f"; or keep {total} and take as many processes as divide it: {', '.join(map(str, sorted(nearest)))}"


def _names(job: "TrainingJob") -> Iterator[str]:
    last = job.nodes - 2 if job.backend == "pytorchjob" else job.nodes - 1
    suffix = f"-node-0-{last}-xxxxx" if job.backend == "trainjob" else f"-worker-{last}" if last > 0 else "-master-0"
    longest = f"{job.name}{suffix}"
    if len(longest) > LABEL_LENGTH:
        room = len(job.run.name) - len(longest) + LABEL_LENGTH
        yield (
            f"the run's name {job.run.name!r} is too long: its pods would be named {longest}, {len(longest)} "
            f"characters of at most {LABEL_LENGTH}; use at most {room}"
        )


def _image(job: "TrainingJob") -> Iterator[str]:
    if job.require_digest and not has_digest(job.image):
        yield (
            f"image {job.image} is named by tag alone and require_digest is set: add @sha256:..., as"
            f" `docker buildx imagetools inspect {job.image}` or `crane digest {job.image}` prints it"
        )


def _resources(job: "TrainingJob") -> Iterator[str]:
    if amount(job.shared_memory_per_process) >= amount(job.memory_per_process):
        yield (
            f"shared_memory_per_process {job.shared_memory_per_process} must be less than memory_per_process "
            f"{job.memory_per_process}, which it is part of"
        )
    for name in {"cpu", "memory", "ephemeral-storage", job.gpu_resource} & set(job.extra_resources):
        yield f"extra_resources must not hold {name}, which other settings decide"


def _ports(job: "TrainingJob") -> Iterator[str]:
    if job.backend == "trainjob" and job.rendezvous_port is not None:
        yield "rendezvous_port is for a PyTorchJob; Trainer always uses 29500: leave it out"
    if job.metrics_port in (job.master_port, job.gang_port):
        taken = f"{job.master_port} for torchrun and {job.gang_port} for the pods' own talk"
        yield f"metrics_port {job.metrics_port} is taken: the processes meet on {taken}; choose another metrics_port"


def _times(job: "TrainingJob") -> Iterator[str]:
    needed = job.checkpoint_seconds + job.shutdown_margin_seconds
    if job.grace_seconds < needed:
        yield (
            f"grace_period_seconds {job.grace_seconds} is too short: a checkpoint may take checkpoint_seconds "
            f"{job.checkpoint_seconds} and the end shutdown_margin_seconds {job.shutdown_margin_seconds}, so at least "
            f"{needed}; below that a preempted run would lose its last steps"
        )
    if job.deadlines.started_seconds <= job.rendezvous_timeout_seconds:
        yield (
            f"deadlines.started_seconds {job.deadlines.started_seconds} must be more than rendezvous_timeout_seconds "
            f"{job.rendezvous_timeout_seconds}, or the launcher gives up before the pods do"
        )


def _queue(job: "TrainingJob") -> Iterator[str]:
    if job.queue is None:
        for name in ("workload_priority", "topology"):
            if getattr(job, name) is not None:
                yield f"{name} is Kueue's and needs a queue: set queue to a LocalQueue of the namespace"


def _environment(job: "TrainingJob") -> Iterator[str]:
    if ours := sorted(set(job.env) & set(plain_environment(job))):
        yield f"env must not hold {', '.join(ours)}, which the job sets itself"


def _metadata(job: "TrainingJob") -> Iterator[str]:
    if ours := sorted(set(job.labels) & set(pod_labels(job))):
        yield f"labels must not hold {', '.join(ours)}, which the job sets itself"
    if ours := sorted(set(job.annotations) & set(pod_annotations(job))):
        yield f"annotations must not hold {', '.join(ours)}, which the job sets itself"
