"""Where steps run on a cluster: images, secrets, volumes, resources, deadlines. kfp.local ignores all of it.

A step is never cached, since the store itself knows what is complete, also after it was emptied. It is never retried
by KFP either: upstream manifests do not retry a step that failed, they start one again whose pod was lost, and a step
that failed for good would only fail again. Every step is idempotent, so submitting the run again is the retry.
"""

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from kfp import dsl, kubernetes

from components.image import PIPELINE_IMAGE, TRAIN_IMAGE

USER = 20002
"""Numeric and not root, as the images say too; restricted Pod Security asks for both."""
SCRATCH = "/tmp"  # an emptyDir; KFP's launcher writes below it as well
STORE_FOLDER = "/var/run/secrets/radiffuse"
DATA_FOLDER = "/data"
REQUIRED_KEYS = ("MINIO_ENDPOINT", "MINIO_ACCESS_KEY", "MINIO_SECRET_KEY")
OPTIONAL_KEYS = ("MINIO_SECURE", "MINIO_CA_CERT")
HOUR = 3600


class Cluster(NamedTuple):
    """Parameters that every pipeline has after its own; all but lists and dicts are text, as a pod's fields need it."""

    store_secret: str = "radiffuse-store"
    data_claim: str = "radiffuse-data"
    train_image: str = TRAIN_IMAGE
    pipeline_image: str = PIPELINE_IMAGE
    cpu: str = "2"
    memory: str = "8Gi"
    accelerator: str = "nvidia.com/gpu"
    gpus: str = "1"
    node_selector: dict[str, str] = {}  # noqa: RUF012 - KFP wants a literal default, and nothing changes it
    tolerations: list[dict[str, str]] = []  # noqa: RUF012


DESCRIPTIONS = {
    "store_secret": f"Secret with the keys {', '.join(REQUIRED_KEYS)}, and {' and '.join(OPTIONAL_KEYS)} where needed;"
    f" its files lie in {STORE_FOLDER} too.",
    "data_claim": f"PersistentVolumeClaim that ingest steps see as {DATA_FOLDER}.",
    "train_image": "Image of the steps that need torch.",
    "pipeline_image": "Image of the others; with job=local, give the one with torch.",
    "cpu": "Request of each step that computes.",
    "memory": "Request of each step that computes.",
    "accelerator": "Resource name of a GPU.",
    "gpus": "GPUs of each step that encodes, samples or evaluates; 0 for none.",
    "node_selector": "Labels of the nodes for those steps.",
    "tolerations": "Taints that those steps tolerate besides nvidia.com/gpu.",
}


@dataclass(frozen=True)
class Work:
    """What a kind of step needs: torch or not, cores and memory of its own or as asked for, and how long at most."""

    deadline_seconds: int | None
    cpu: str | None = None
    """Request; None takes the pipeline's parameter, as memory does."""
    memory: str | None = None
    has_torch: bool = False
    has_data: bool = False


INGEST = Work(48 * HOUR, has_data=True)
STAGE = Work(6 * HOUR, cpu="1", memory="2Gi")
FIND = Work(HOUR, cpu="100m", memory="256Mi")
COMPUTE = Work(24 * HOUR, has_torch=True)
LAUNCH = Work(None, cpu="200m", memory="512Mi")
"""Training waits in queues; the launcher has a deadline for every phase of its job, and none in all."""
FINISH = Work(HOUR // 6, cpu="100m", memory="256Mi")


def on_cluster(pipeline: Callable[..., None]) -> Callable[..., None]:
    """Give a pipeline function the parameters of `Cluster`, after its own and in place of its keyword `cluster`."""
    signature = inspect.signature(pipeline)
    own = [parameter for parameter in signature.parameters.values() if parameter.name != "cluster"]
    added = [
        inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default, annotation=type(default))
        for name, default in Cluster._field_defaults.items()
    ]

    @functools.wraps(pipeline)
    def extended(*arguments: Any) -> None:
        pipeline(*arguments[: len(own)], cluster=Cluster(*arguments[len(own) :]))

    described = [
        line for line in str(pipeline.__doc__).rstrip().splitlines() if not line.startswith("        cluster:")
    ]
    lines = [f"        {name}: {DESCRIPTIONS[name]}" for name in Cluster._fields]
    extended.__doc__ = "\n".join([*described, *lines])
    extended.__signature__ = signature.replace(parameters=[*own, *added])  # type: ignore[attr-defined]
    return extended


def place(task: dsl.PipelineTask, work: Work, cluster: Cluster) -> dsl.PipelineTask:
    """Set what the step needs of the cluster."""
    # kfp's compiler forgets these four in an exit handler or a loop: nobody would pass them on to the pod.
    task.register_pipeline_channels([cluster.cpu, cluster.memory, cluster.accelerator, cluster.gpus])
    task.set_caching_options(False)
    task.set_container_image(cluster.train_image if work.has_torch else cluster.pipeline_image)
    task.set_cpu_request(cluster.cpu if work.cpu is None else work.cpu)
    task.set_memory_request(cluster.memory if work.memory is None else work.memory)
    task.set_env_variable("RADIFFUSE_CACHE", f"{SCRATCH}/radiffuse")
    task.set_env_variable("RADIFFUSE_PROGRESS", "lines")
    kubernetes.empty_dir_mount(task, "scratch", SCRATCH)
    kubernetes.set_security_context(task, run_as_user=USER, run_as_group=USER, run_as_non_root=True)
    kubernetes.use_secret_as_env(task, cluster.store_secret, {key: key for key in REQUIRED_KEYS})
    kubernetes.use_secret_as_env(task, cluster.store_secret, {key: key for key in OPTIONAL_KEYS}, optional=True)
    kubernetes.use_secret_as_volume(task, cluster.store_secret, STORE_FOLDER)
    if work.deadline_seconds is not None:
        kubernetes.set_timeout(task, work.deadline_seconds)
    if work.has_data:
        kubernetes.mount_pvc(task, cluster.data_claim, DATA_FOLDER)
    if work.has_torch:
        task.set_accelerator_type(cluster.accelerator).set_accelerator_limit(cluster.gpus)
        kubernetes.add_node_selector_json(task, cluster.node_selector)
        kubernetes.add_toleration(task, key="nvidia.com/gpu", operator="Exists", effect="NoSchedule")
        kubernetes.add_toleration_json(task, cluster.tolerations)
    return task
