"""A Prometheus, where its operator is installed: that it is told of the job's pods, and listens."""

from radiffuse.cluster.fields import field, mapping, objects, text
from radiffuse.cluster.kinds import NAMESPACES, Object
from radiffuse.cluster.pod import METRICS_PORT_NAME, pod_template
from radiffuse.cluster.resources import POD_MONITORS, PROMETHEUSES
from radiffuse.doctor.finding import Finding, ok, skipped, warning
from radiffuse.doctor.surroundings import Surroundings

NOT_INSTALLED = f"there is no Prometheus operator; another scraper finds the pods by their port {METRICS_PORT_NAME}"


def pod_monitor(surroundings: Surroundings) -> Finding:
    """Prometheus is told of the job's pods."""
    if not surroundings.client.knows(POD_MONITORS):
        return skipped(NOT_INSTALLED)
    found = _pod_monitors(surroundings)
    if not found:
        return warning(
            f"no PodMonitor in namespace {surroundings.namespace} selects the job's pods and their port "
            f"{METRICS_PORT_NAME}",
            "install the chart with monitoring.podMonitor.enabled",
        )
    return ok(", ".join(text(each, "metadata", "name") for each in found))


def prometheus(surroundings: Surroundings) -> Finding:
    """A Prometheus picks that PodMonitor by its labels and its namespace."""
    if not surroundings.client.knows(PROMETHEUSES):
        return skipped(NOT_INSTALLED)
    monitors = _pod_monitors(surroundings)
    if not monitors:
        return skipped("there is no PodMonitor to be picked")
    servers = surroundings.list_items(PROMETHEUSES, None)
    if not servers:
        return warning("the cluster has no Prometheus", "make one: kubectl explain prometheus.spec")
    namespace = surroundings.find(NAMESPACES, None, surroundings.namespace) or {}
    for server in servers:
        for monitor in monitors:
            if _picks(server, monitor, mapping(namespace, "metadata", "labels")):
                return ok(f"{_address(server)} picks {text(monitor, 'metadata', 'name')}")
    wanted = "; ".join(
        f"{_address(server)} wants {_words(server, 'podMonitorSelector')} on a PodMonitor and "
        f"{_words(server, 'podMonitorNamespaceSelector')} on its namespace"
        for server in servers
    )
    return warning("no Prometheus picks the PodMonitor", f"add the labels that one of them asks for: {wanted}")


def _pod_monitors(surroundings: Surroundings) -> list[Object]:
    """Those that select pods like the job's, and the port of their metrics."""
    kind = surroundings.kind
    template = pod_template(surroundings.job, kind.container, [], "Never")
    # The operator adds its own label, which a PodMonitor may well go by.
    labels = template["metadata"]["labels"] | {kind.job_label: surroundings.job.name}
    return [
        each
        for each in surroundings.list_items(POD_MONITORS, surroundings.namespace)
        if selects(field(each, "spec", "selector"), labels)
        and METRICS_PORT_NAME in [text(end, "port") for end in objects(each, "spec", "podMetricsEndpoints")]
    ]


def _picks(server: Object, monitor: Object, namespace_labels: Object) -> bool:
    namespaces = field(server, "spec", "podMonitorNamespaceSelector")
    if namespaces is None:  # its own namespace alone
        is_near = text(server, "metadata", "namespace") == text(monitor, "metadata", "namespace")
    else:
        is_near = selects(namespaces, namespace_labels)
    return is_near and selects(field(server, "spec", "podMonitorSelector"), mapping(monitor, "metadata", "labels"))


def selects(selector: object, labels: Object) -> bool:
    """Whether a label selector matches; an empty one matches everything, and none nothing."""
    if not isinstance(selector, dict):
        return False
    if any(labels.get(key) != value for key, value in mapping(selector, "matchLabels").items()):
        return False
    return all(_holds(each, labels) for each in objects(selector, "matchExpressions"))


def _holds(expression: Object, labels: Object) -> bool:
    key, operator = text(expression, "key"), text(expression, "operator")
    values = expression.get("values") or []
    if operator in ("Exists", "DoesNotExist"):
        return (key in labels) == (operator == "Exists")
    return (labels.get(key) in values) == (operator == "In")


def _address(server: Object) -> str:
    return f"{text(server, 'metadata', 'namespace')}/{text(server, 'metadata', 'name')}"


def _words(server: Object, name: str) -> str:
    selector = field(server, "spec", name)
    if selector is None:
        return "none at all" if name == "podMonitorSelector" else "that it is its own"
    labels = [f"{key}={value}" for key, value in mapping(selector, "matchLabels").items()]
    labels += [
        f"{text(each, 'key')} {text(each, 'operator')} {', '.join(map(str, each.get('values') or []))}".strip()
        for each in objects(selector, "matchExpressions")
    ]
    return " and ".join(labels) or "nothing"
