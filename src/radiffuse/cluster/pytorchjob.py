"""A training job as a PyTorchJob of the Kubeflow Training Operator 1.9."""

from typing import TYPE_CHECKING, Any

from radiffuse.cluster.kinds import PYTORCHJOB
from radiffuse.cluster.pod import object_metadata, pod_template

if TYPE_CHECKING:
    from radiffuse.cluster.job import TrainingJob


def render_pytorchjob(job: "TrainingJob") -> dict[str, Any]:
    """One master, and a worker for each further node; all are alike but for the rank that the operator gives them."""
    replicas = {"Master": _replicas(job, 1)}
    if job.nodes > 1:
        replicas["Worker"] = _replicas(job, job.nodes - 1)
    return {
        "apiVersion": f"{PYTORCHJOB.resource.group}/{PYTORCHJOB.resource.version}",
        "kind": PYTORCHJOB.name,
        "metadata": object_metadata(job),
        "spec": {
            "nprocPerNode": str(job.processes),
            "runPolicy": _run_policy(job),
            "pytorchReplicaSpecs": replicas,
        },
    }


def _run_policy(job: "TrainingJob") -> dict[str, Any]:
    policy: dict[str, Any] = {
        # Pods that finished keep their logs; those that still run when the job has failed give their GPUs back.
        "cleanPodPolicy": "Running",
        # The operator adds up the restarts of all pods, and fails the job at the limit, not past it.
        "backoffLimit": job.max_restarts * job.nodes + 1,
    }
    if job.queue is not None:
        policy["suspend"] = True  # Kueue lifts it; where it does not manage this kind, nothing bypasses the quota
    return policy


def _replicas(job: "TrainingJob", number: int) -> dict[str, Any]:
    ports = [{"name": "pytorchjob-port", "containerPort": job.master_port}]
    # OnFailure restarts a container in place, so that the job keeps its GPUs.
    template = pod_template(job, PYTORCHJOB.container, ports, restart_policy="OnFailure")
    return {"replicas": number, "restartPolicy": "OnFailure", "template": template}
