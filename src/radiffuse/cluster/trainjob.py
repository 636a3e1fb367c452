"""A training job as a TrainJob of Kubeflow Trainer 2.3, with the TrainingRuntime that it refers to.

The runtime is the job's own and lies in its namespace, so that its launcher needs no rights over the whole cluster.
"""

from typing import TYPE_CHECKING, Any

from radiffuse.cluster.kinds import TRAINJOB
from radiffuse.cluster.pod import object_metadata, pod_template
from radiffuse.outcome import Outcome

if TYPE_CHECKING:
    from radiffuse.cluster.job import TrainingJob

API_VERSION = f"{TRAINJOB.resource.group}/{TRAINJOB.resource.version}"
RUNTIME_KIND = "TrainingRuntime"


def render_trainjob(job: "TrainingJob") -> list[dict[str, Any]]:
    """The runtime, which must exist first, and the job."""
    return [_runtime(job), _job(job)]


def _job(job: "TrainingJob") -> dict[str, Any]:
    spec: dict[str, Any] = {
        "runtimeRef": {"apiGroup": TRAINJOB.resource.group, "kind": RUNTIME_KIND, "name": job.name},
        "trainer": {"numNodes": job.nodes, "numProcPerNode": job.processes},
    }
    if job.queue is not None:
        spec["suspend"] = True  # Kueue lifts it; where it does not manage this kind, nothing bypasses the quota
    return {"apiVersion": API_VERSION, "kind": TRAINJOB.name, "metadata": object_metadata(job), "spec": spec}


def _runtime(job: "TrainingJob") -> dict[str, Any]:
    labels = {"trainer.kubeflow.org/framework": "torch"}
    metadata = object_metadata(job.model_copy(update={"queue": None, "workload_priority": None}))
    return {
        "apiVersion": API_VERSION,
        "kind": RUNTIME_KIND,
        "metadata": metadata | {"labels": metadata["labels"] | labels},
        "spec": {
            "mlPolicy": {"numNodes": job.nodes, "torch": {}},
            "template": {"spec": {"failurePolicy": _failure_policy(job), "replicatedJobs": [_replicated_job(job)]}},
        },
    }


def _failure_policy(job: "TrainingJob") -> dict[str, Any]:
    never_retried = {"name": "neverRetried", "action": "FailJobSet", "onJobFailureReasons": ["PodFailurePolicy"]}
    return {
        "maxRestarts": job.max_restarts,
        # The nodes are full until the last pod of the old gang is gone.
        "restartStrategy": "BlockingRecreate",
        "rules": [never_retried],
    }


def _replicated_job(job: "TrainingJob") -> dict[str, Any]:
    """A Job that fails with its first pod, so that the gang ends and starts as one."""
    codes = sorted(code for code in Outcome if code not in (Outcome.DONE, Outcome.FAILED) and not code.is_retryable)
    on_exit_codes = {"containerName": TRAINJOB.container, "operator": "In", "values": [int(code) for code in codes]}
    return {
        "name": "node",
        "template": {
            "metadata": {"labels": {"trainer.kubeflow.org/trainjob-ancestor-step": "trainer"}},
            "spec": {
                "backoffLimit": 0,
                "podFailurePolicy": {"rules": [{"action": "FailJob", "onExitCodes": on_exit_codes}]},
                "template": pod_template(job, TRAINJOB.container, [], restart_policy="Never"),
            },
        },
    }
