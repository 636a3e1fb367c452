"""Environment variables of a training pod that are no secrets; torchrun's PET_* come from the operator."""

from decimal import Decimal
from typing import TYPE_CHECKING

from radiffuse.cluster.quantities import amount

if TYPE_CHECKING:
    from radiffuse.cluster.job import TrainingJob

TMP = "/tmp"
CA_FOLDER = "/etc/radiffuse/ca"


def plain_environment(job: "TrainingJob") -> dict[str, str]:
    """All that the job itself sets."""
    return _places(job) | _threads(job) | _collectives(job) | _store(job)


def _places(job: "TrainingJob") -> dict[str, str]:
    # The root file system is read-only, and the user need not be known to the image.
    return {"HOME": TMP, "RADIFFUSE_CACHE": f"{TMP}/radiffuse", "RADIFFUSE_PROGRESS": "lines"}


def _threads(job: "TrainingJob") -> dict[str, str]:
    # A CPU limit hides no core of the node from torch, which would start one thread for each of them in every process.
    cores = amount(job.cpu) / Decimal(job.processes)
    return {"OMP_NUM_THREADS": str(max(1, int(cores)))}


def _collectives(job: "TrainingJob") -> dict[str, str]:
    environment = {"TORCH_ELASTIC_SHUTDOWN_TIMEOUT": str(job.worker_grace_seconds)}
    if job.network_interface is not None:
        environment["GLOO_SOCKET_IFNAME"] = job.network_interface
    if job.gpus_per_node == 0:
        return environment
    environment |= {
        # A process whose peer has died ends itself after the collective's timeout, instead of waiting for ever.
        "TORCH_NCCL_ASYNC_ERROR_HANDLING": "1",
        "NCCL_DEBUG": job.nccl_debug,
    }
    if job.network_interface is not None:
        environment["NCCL_SOCKET_IFNAME"] = f"={job.network_interface}"  # NCCL else takes it for a prefix
    if job.nccl_ib_hca is not None:
        environment["NCCL_IB_HCA"] = job.nccl_ib_hca
    return environment


def _store(job: "TrainingJob") -> dict[str, str]:
    environment = {}
    if job.store.endpoint is not None:
        environment["MINIO_ENDPOINT"] = job.store.endpoint
    if job.store.secure is not None:
        environment["MINIO_SECURE"] = str(job.store.secure).lower()
    if job.store.ca_secret is not None:
        environment["MINIO_CA_CERT"] = f"{CA_FOLDER}/ca.crt"
    return environment
