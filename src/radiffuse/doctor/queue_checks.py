"""Kueue, where the job names a queue: that it is there, takes jobs, and manages this kind of job at all."""

import yaml

from radiffuse.cluster.checks import LOCAL_QUEUES
from radiffuse.cluster.fields import field, mapping, objects, text
from radiffuse.cluster.permissions import QUEUE_CONFIGURATION
from radiffuse.cluster.resources import CONFIG_MAPS, WORKLOAD_PRIORITIES
from radiffuse.doctor.finding import Finding, failed, ok, skipped, warning
from radiffuse.doctor.surroundings import Surroundings

NAMESPACE = "kueue-system"
CONFIGURATION_ENTRY = "controller_manager_config.yaml"
FRAMEWORKS = {"PyTorchJob": "kubeflow.org/pytorchjob", "TrainJob": "trainer.kubeflow.org/trainjob"}
"""As Kueue's configuration names them."""
NO_QUEUE = "the job names no queue"


def queue(surroundings: Surroundings) -> Finding:
    """The LocalQueue exists and is active."""
    name, where = surroundings.job.queue, surroundings.namespace
    if name is None:
        return ok(NO_QUEUE)
    served = [resource for resource in LOCAL_QUEUES if surroundings.client.knows(resource)]
    if not served:
        return failed("Kueue is not installed", "install Kueue 0.19, or leave queue out of the job")
    found = surroundings.find(served[0], where, name)
    if found is None:
        fix = f"set queue to one that `kubectl --namespace {where} get localqueues` lists, or leave it out"
        return failed(f"there is no LocalQueue {name!r} in namespace {where}", fix)
    for condition in objects(found, "status", "conditions"):
        if text(condition, "type") == "Active" and text(condition, "status") == "False":
            cluster_queue = text(found, "spec", "clusterQueue")
            fix = f"look at its ClusterQueue: kubectl describe clusterqueue {cluster_queue}"
            return failed(f"{name} takes no jobs: {text(condition, 'message')}", fix)
    return ok(f"{name} exists")


def integration(surroundings: Surroundings) -> Finding:
    """Kueue manages this kind of job; one that it does not manage would stay suspended for ever."""
    if surroundings.job.queue is None:
        return ok(NO_QUEUE)
    found = surroundings.find(CONFIG_MAPS, NAMESPACE, QUEUE_CONFIGURATION)
    if found is None:
        return skipped(f"there is no ConfigMap {NAMESPACE}/{QUEUE_CONFIGURATION} to look at")
    try:
        configuration = yaml.safe_load(str(mapping(found, "data").get(CONFIGURATION_ENTRY, "")))
    except yaml.YAMLError:
        return skipped(f"ConfigMap {NAMESPACE}/{QUEUE_CONFIGURATION} holds no YAML")
    enabled, framework = field(configuration, "integrations", "frameworks"), FRAMEWORKS[surroundings.kind.name]
    fix = (
        f"add {framework} to integrations.frameworks in ConfigMap {NAMESPACE}/{QUEUE_CONFIGURATION}, and restart "
        "kueue-controller-manager"
    )
    if not isinstance(enabled, list):
        return warning(f"Kueue's configuration lists no frameworks, and leaves {framework} to its version", fix)
    if framework not in enabled:
        return failed(f"Kueue does not manage {framework}, so the job would stay suspended", fix)
    return ok(f"Kueue manages {framework}")


def workload_priority(surroundings: Surroundings) -> Finding:
    """The job's place among those of the queue."""
    name = surroundings.job.workload_priority
    if name is None:
        return ok("the job names none: the queue decides")
    if surroundings.find(WORKLOAD_PRIORITIES, None, name) is None:
        fix = "set workload_priority to one that `kubectl get workloadpriorityclasses` lists, or leave it out"
        return failed(f"there is no WorkloadPriorityClass {name!r}", fix)
    return ok(f"{name} exists")
