"""The pod that both kinds of job make copies of: one per node, under restricted Pod Security."""

from typing import TYPE_CHECKING, Any

from radiffuse.cluster.environment import CA_FOLDER, TMP, plain_environment
from radiffuse.cluster.kinds import MANAGED_BY, MANAGED_BY_LABEL, NAME_LABEL, PLAN_LABEL, QUEUE_LABEL, RUN_LABEL

if TYPE_CHECKING:
    from radiffuse.cluster.job import TrainingJob

INSTANCE_LABEL = "app.kubernetes.io/instance"
PRIORITY_LABEL = "kueue.x-k8s.io/priority-class"
NO_SIDECAR = {"sidecar.istio.io/inject": "false"}  # a proxy would outlive the training and block the rendezvous
METRICS_PORT_NAME = "metrics"


def object_metadata(job: "TrainingJob") -> dict[str, Any]:
    """Of the job itself: its name, what finds it again, and its place in a queue."""
    queue = {} if job.queue is None else {QUEUE_LABEL: job.queue}
    priority = {} if job.workload_priority is None else {PRIORITY_LABEL: job.workload_priority}
    metadata: dict[str, Any] = {"name": job.name, "labels": {**job.labels, **_identity(job), **queue, **priority}}
    if job.namespace is not None:
        metadata["namespace"] = job.namespace
    if job.annotations:
        metadata["annotations"] = dict(job.annotations)
    return metadata


def pod_labels(job: "TrainingJob") -> dict[str, str]:
    """Those that the job itself sets."""
    return _identity(job) | NO_SIDECAR


def pod_annotations(job: "TrainingJob") -> dict[str, str]:
    """Those that the job itself sets."""
    # An autoscaler that tidies up would cost a restart; it leaves pods alone that say so.
    annotations = NO_SIDECAR | {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"}
    if job.topology is not None:
        mode = "required" if job.topology.required else "preferred"
        annotations[f"kueue.x-k8s.io/podset-{mode}-topology"] = job.topology.level
        if job.backend == "pytorchjob" and job.nodes > 1:
            # Master and Worker are two sets of pods to Kueue, and are to lie together.
            annotations["kueue.x-k8s.io/podset-group-name"] = job.name
    return annotations


def pod_template(
    job: "TrainingJob", container: str, ports: list[dict[str, Any]], restart_policy: str
) -> dict[str, Any]:
    """Metadata and specification of each pod; the container that trains has that name and listens on those ports."""
    spec: dict[str, Any] = {
        "restartPolicy": restart_policy,
        "terminationGracePeriodSeconds": job.grace_seconds,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": job.user_id,
            "runAsGroup": job.user_id,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "tolerations": _tolerations(job),
        "containers": [_container(job, container, ports)],
        "volumes": _volumes(job),
    }
    return {
        "metadata": {
            "labels": {**job.labels, **pod_labels(job)},
            "annotations": {**job.annotations, **pod_annotations(job)},
        },
        "spec": spec | _placement(job) | _identity_of_pod(job),
    }


def _identity(job: "TrainingJob") -> dict[str, str]:
    return {
        NAME_LABEL: MANAGED_BY,
        MANAGED_BY_LABEL: MANAGED_BY,
        INSTANCE_LABEL: job.name,
        RUN_LABEL: job.run.name,
        PLAN_LABEL: job.run.digest,
    }


def _container(job: "TrainingJob", name: str, ports: list[dict[str, Any]]) -> dict[str, Any]:
    resources = _resources(job)
    return {
        "name": name,
        "image": job.image,
        "imagePullPolicy": job.image_pull_policy,
        # No command: the image's own first process takes the worker in, and passes SIGTERM on from the first moment.
        "args": _arguments(job),
        "env": _environment(job),
        "ports": [
            *ports,
            {"name": "gang", "containerPort": job.gang_port},
            {"name": METRICS_PORT_NAME, "containerPort": job.metrics_port},
        ],
        "resources": {"limits": resources, "requests": dict(resources)},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        # The kernel may kill the worker before it can say why; the end of its log then does.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": _mounts(job),
    }


def _arguments(job: "TrainingJob") -> list[str]:
    options = {
        "--plan": job.plan_uri,
        "--metrics-port": job.metrics_port,
        "--grace-seconds": job.worker_grace_seconds,
        "--rendezvous-timeout-seconds": job.rendezvous_timeout_seconds,
        "--max-starts": job.max_starts,
        "--linger-seconds": job.linger_seconds,
        "--termination-log": "/dev/termination-log",
    }
    return ["worker", *(str(part) for option in options.items() for part in option)]


def _environment(job: "TrainingJob") -> list[dict[str, Any]]:
    plain = plain_environment(job)
    entries = {
        "MINIO_ENDPOINT": job.store.endpoint_entry,
        "MINIO_ACCESS_KEY": job.store.access_key_entry,
        "MINIO_SECRET_KEY": job.store.secret_key_entry,
        "MINIO_SECURE": job.store.secure_entry,
    }
    secret = [
        {"name": name, "valueFrom": {"secretKeyRef": _secret_entry(job, entry, is_optional=name == "MINIO_SECURE")}}
        for name, entry in entries.items()
        if name not in plain
    ]
    return secret + [{"name": name, "value": value} for name, value in sorted((plain | job.env).items())]


def _secret_entry(job: "TrainingJob", entry: str, is_optional: bool) -> dict[str, Any]:
    return {"name": job.store.secret, "key": entry} | ({"optional": True} if is_optional else {})


def _resources(job: "TrainingJob") -> dict[str, str]:
    resources = {"cpu": job.cpu, "memory": job.memory}
    if job.gpus_per_node:
        resources[job.gpu_resource] = str(job.gpus_per_node)
    if job.scratch is not None:
        resources["ephemeral-storage"] = job.scratch
    return resources | job.extra_resources


def _volumes(job: "TrainingJob") -> list[dict[str, Any]]:
    limit = {} if job.scratch is None else {"sizeLimit": job.scratch}
    volumes: list[dict[str, Any]] = [
        {"name": "tmp", "emptyDir": limit},
        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": job.shared_memory}},
    ]
    if job.store.ca_secret is not None:
        items = [{"key": job.store.ca_entry, "path": "ca.crt"}]
        volumes.append({"name": "store-ca", "secret": {"secretName": job.store.ca_secret, "items": items}})
    return volumes


def _mounts(job: "TrainingJob") -> list[dict[str, Any]]:
    mounts: list[dict[str, Any]] = [{"name": "tmp", "mountPath": TMP}, {"name": "shm", "mountPath": "/dev/shm"}]
    if job.store.ca_secret is not None:
        mounts.append({"name": "store-ca", "mountPath": CA_FOLDER, "readOnly": True})
    return mounts


def _tolerations(job: "TrainingJob") -> list[dict[str, Any]]:
    gpu = [{"key": job.gpu_resource, "operator": "Exists", "effect": "NoSchedule"}] if job.gpus_per_node else []
    lost = [
        {
            "key": f"node.kubernetes.io/{state}",
            "operator": "Exists",
            "effect": "NoExecute",
            "tolerationSeconds": job.node_lost_seconds,
        }
        for state in ("not-ready", "unreachable")
    ]
    own = [
        {
            "operator": "Exists" if toleration.value is None else "Equal",
            **toleration.model_dump(exclude_none=True),
        }
        for toleration in job.tolerations
    ]
    return gpu + lost + own


def _placement(job: "TrainingJob") -> dict[str, Any]:
    placement: dict[str, Any] = {}
    if job.nodes > 1:
        apart = {"labelSelector": {"matchLabels": {INSTANCE_LABEL: job.name}}, "topologyKey": "kubernetes.io/hostname"}
        placement["affinity"] = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [apart]}}
    if job.node_selector:
        placement["nodeSelector"] = dict(job.node_selector)
    if job.priority_class is not None:
        placement["priorityClassName"] = job.priority_class
    if job.runtime_class is not None:
        placement["runtimeClassName"] = job.runtime_class
    return placement


def _identity_of_pod(job: "TrainingJob") -> dict[str, Any]:
    identity: dict[str, Any] = {}
    if job.service_account is not None:
        identity["serviceAccountName"] = job.service_account
    if job.image_pull_secrets:
        identity["imagePullSecrets"] = [{"name": name} for name in job.image_pull_secrets]
    return identity
