"""The nodes: how many GPUs they have, and whether the job's pods find room on them, each on a node of its own."""

from collections import Counter
from collections.abc import Iterable, Sequence
from decimal import Decimal

from radiffuse.cluster.fields import field, mapping, objects, text, true_conditions
from radiffuse.cluster.job import TrainingJob
from radiffuse.cluster.kinds import Object
from radiffuse.cluster.pod import pod_template
from radiffuse.cluster.resources import NODES
from radiffuse.doctor.finding import Finding, failed, ok
from radiffuse.doctor.quantity import quantity, shown
from radiffuse.doctor.surroundings import Surroundings


def gpus(surroundings: Surroundings) -> Finding:
    """The nodes have GPUs that the cluster knows of."""
    resource = surroundings.job.gpu_resource
    nodes = surroundings.list_items(NODES, None)
    if surroundings.job.gpus_per_node == 0:
        return ok(f"the job asks for none; the cluster has {len(nodes)} nodes")
    having = Counter(int(number) for node in nodes if (number := _allocatable(node, resource)))
    if not having:
        return failed(
            f"none of {len(nodes)} nodes has {resource}",
            f"install the vendor's device plugin or GPU operator; or set gpu_resource, if theirs is not {resource}; or "
            "train on CPUs with --job laptop-cluster; or --skip GPUs, where an autoscaler makes such nodes when asked",
        )
    listed = [
        f"{count} {'node' if count == 1 else 'nodes'} of {number} {resource}"
        for number, count in sorted(having.items(), reverse=True)
    ]
    return ok(", ".join(listed))


def gang(surroundings: Surroundings) -> Finding:
    """There are enough nodes that each hold a pod of the job; what other pods use now is not counted."""
    job, nodes = surroundings.job, surroundings.list_items(NODES, None)
    obstacles = [_obstacle(surroundings, node) for node in nodes]
    fitting = obstacles.count(None)
    each = ", ".join(f"{name} {shown(name, value)}" for name, value in surroundings.pod_resources.items())
    if fitting >= job.nodes:
        return ok(f"{fitting} nodes hold a pod of {each}; the job needs {job.nodes}")
    reasons = Counter(reason for reason in obstacles if reason is not None)
    listed = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common()) or "there are none"
    return failed(
        f"{fitting} of {len(nodes)} nodes hold a pod of {each}, and the job needs {job.nodes}: {listed}",
        _instead(surroundings, nodes),
    )


def _obstacle(surroundings: Surroundings, node: Object) -> str | None:
    """Why the node cannot hold a pod of the job; None when it can, once it is empty."""
    if (reason := _closed(surroundings.job, node)) is not None:
        return reason
    for name, needed in surroundings.pod_resources.items():
        found = _allocatable(node, name)
        if found < needed:
            return f"with {name} {shown(name, found)}"
    return None


def _closed(job: TrainingJob, node: Object) -> str | None:
    """Why the node takes no pod of the job, whatever its size."""
    if "Ready" not in true_conditions(node):
        return "not ready"
    if field(node, "spec", "unschedulable") is True:
        return "cordoned"
    labels = mapping(node, "metadata", "labels")
    for key, value in job.node_selector.items():
        if labels.get(key) != value:
            return f"without the label {key}={value}"
    tolerations = pod_template(job, "", [], "Never")["spec"]["tolerations"]
    for taint in objects(node, "spec", "taints"):
        if text(taint, "effect") != "PreferNoSchedule" and not any(_bears(each, taint) for each in tolerations):
            return f"with the taint {text(taint, 'key')}"
    return None


def _bears(toleration: Object, taint: Object) -> bool:
    if toleration.get("effect") not in (None, taint.get("effect")):
        return False
    if toleration.get("key") not in (None, taint.get("key")):
        return False
    return toleration.get("operator") == "Exists" or toleration.get("value") == taint.get("value", "")


def _allocatable(node: Object, name: str) -> Decimal:
    return quantity(node, "status", "allocatable", name) or Decimal(0)


def _instead(surroundings: Surroundings, nodes: Sequence[Object]) -> str:
    """The largest job like this one that would fit."""
    job = surroundings.job
    open_ = [node for node in nodes if _closed(job, node) is None]
    shares = sorted((_processes_on(surroundings, node) for node in open_), reverse=True)
    sizes = [(count * share, count, share) for count, share in enumerate(shares, start=1) if share]
    if not sizes:
        reasons = "tolerations, node_selector, cpu_per_process and memory_per_process"
        return f"add nodes, or change {reasons}: not one process of the job fits as it is"
    _, count, share = max(sizes)
    per_node = "gpus_per_node" if job.gpus_per_node else "processes_per_node"
    return f"add nodes, or use what fits: --set-job nodes={count} --set-job {per_node}={share}"


def _processes_on(surroundings: Surroundings, node: Object) -> int:
    """How many GPUs of the node, or processes without any, a pod like the job's could use."""
    job = surroundings.job
    units = job.gpus_per_node or job.processes
    fixed = set(job.extra_resources) | {"ephemeral-storage"}
    return min(_rooms(surroundings.pod_resources.items(), node, units, fixed))


def _rooms(resources: Iterable[tuple[str, Decimal]], node: Object, units: int, fixed: set[str]) -> Iterable[int]:
    for name, needed in resources:
        found = _allocatable(node, name)
        if name not in fixed:
            yield int(found / (needed / units))
        elif found < needed:
            yield 0
