"""The namespace of the job: that it is there, what it enforces and grants, and the secrets and accounts in it."""

from decimal import Decimal

from radiffuse.cluster.api_errors import ForbiddenError, RefusedError
from radiffuse.cluster.checks import needed_secrets, secret_problem
from radiffuse.cluster.fields import mapping, objects, text
from radiffuse.cluster.kinds import NAMESPACES, PODS, SECRETS, Object, Resource
from radiffuse.cluster.names import has_digest
from radiffuse.cluster.pod import pod_template
from radiffuse.cluster.resources import (
    LIMIT_RANGES,
    PRIORITY_CLASSES,
    RESOURCE_QUOTAS,
    RUNTIME_CLASSES,
    SERVICE_ACCOUNTS,
)
from radiffuse.doctor.finding import Finding, failed, ok, skipped, warning
from radiffuse.doctor.quantity import quantity, shown
from radiffuse.doctor.surroundings import Surroundings

ENFORCED = "pod-security.kubernetes.io/enforce"
RESTRICTED = "restricted"
OUR_SCOPES = ("NotBestEffort", "NotTerminating")
"""Of the scopes of a quota those that our pods, with requests and without a deadline of their own, are within."""


def namespace(surroundings: Surroundings) -> Finding:
    """It exists and is not about to go."""
    name = surroundings.namespace
    found = surroundings.find(NAMESPACES, None, name)
    if found is None:
        return failed(f"there is no namespace {name!r}", f"kubectl create namespace {name}, or name another one")
    if text(found, "status", "phase") == "Terminating":
        return failed(f"{name} is being deleted", "wait until it is gone and create it again, or name another one")
    return ok(f"{name} exists")


def pod_security(surroundings: Surroundings) -> Finding:
    """What the namespace demands of pods; ours keep to the strictest level."""
    name = surroundings.namespace
    level = text(surroundings.find(NAMESPACES, None, name), "metadata", "labels", ENFORCED)
    if level == RESTRICTED:
        return ok(f"{level} is enforced, which the job's pods keep to")
    return warning(
        f"{level or 'no level'} is enforced, though the job's pods keep to {RESTRICTED}",
        f"kubectl label --overwrite namespace {name} {ENFORCED}={RESTRICTED}",
    )


def secrets(surroundings: Surroundings) -> Finding:
    """Those that the pods refer to exist and have the entries; their values are not looked at."""
    where, needed = surroundings.namespace, needed_secrets(surroundings.job)
    problems = []
    for name, entries in needed:
        found = surroundings.find(SECRETS, where, name)
        if problem := secret_problem(found or {}, where, name, entries):
            problems.append((problem, name, entries))
    if not problems:
        return ok(", ".join(f"{name} ({', '.join(entries) or 'registry'})" for name, entries in needed))
    fixes = [_create(where, name, entries) for _, name, entries in problems]
    return failed("; ".join(problem.partition(": create it")[0] for problem, *_ in problems), "\n".join(fixes))


def _create(where: str, name: str, entries: list[str]) -> str:
    """The command that makes the secret, without what is secret in it."""
    kind = "generic" if entries else "docker-registry"
    given = "".join(f" --from-literal={entry}=..." for entry in entries) or (
        " --docker-server=... --docker-username=... --docker-password=..."
    )
    return f"kubectl --namespace {where} create secret {kind} {name}{given}"


def image(surroundings: Surroundings) -> Finding:
    """The image is named by its content, so that every node runs the same code, tomorrow too."""
    name = surroundings.job.image
    if has_digest(name):
        return ok(name)
    return warning(
        f"{name} is named by a tag, which may be moved", f"name it with @sha256:..., as `crane digest {name}` prints it"
    )


def service_account(surroundings: Surroundings) -> Finding:
    """The account that the pods run under."""
    where = surroundings.namespace
    fix = f"kubectl --namespace {where} create serviceaccount {surroundings.job.service_account}"
    return _named(surroundings, SERVICE_ACCOUNTS, where, surroundings.job.service_account, fix)


def runtime_class(surroundings: Surroundings) -> Finding:
    """How the nodes run the pods' containers."""
    fix = "set runtime_class to one that `kubectl get runtimeclasses` lists, or leave it out"
    return _named(surroundings, RUNTIME_CLASSES, None, surroundings.job.runtime_class, fix)


def priority_class(surroundings: Surroundings) -> Finding:
    """Whom the pods may displace, and who them."""
    fix = "set priority_class to one that `kubectl get priorityclasses` lists, or leave it out"
    return _named(surroundings, PRIORITY_CLASSES, None, surroundings.job.priority_class, fix)


def _named(surroundings: Surroundings, resource: Resource, where: str | None, name: str | None, fix: str) -> Finding:
    if name is None:
        return ok("the job names none: the default one holds")
    if surroundings.find(resource, where, name) is None:
        return failed(f"there is no {name!r} among the {resource.plural}; no pod of the job could be made", fix)
    return ok(f"{name} exists")


def quota(surroundings: Surroundings) -> Finding:
    """What the namespace may use, all pods together and each of them, is enough for the job."""
    where = surroundings.namespace
    refused: list[str] = []
    taken: list[str] = []
    for found in surroundings.list_items(RESOURCE_QUOTAS, where):
        if _is_ours(surroundings, found):
            _compare(surroundings, found, refused, taken)
    for found in surroundings.list_items(LIMIT_RANGES, where):
        refused += _over_limit(surroundings, found)
    fix = f"ask who runs the cluster for more in namespace {where}, or use fewer nodes, GPUs or memory per process"
    if refused:
        return failed("; ".join(refused), fix)
    if taken:
        return warning("; ".join(taken), "wait until other jobs of the namespace are done, or ask for more")
    return ok("nothing that the namespace limits is less than the job needs")


def _is_ours(surroundings: Surroundings, found: Object) -> bool:
    """Whether the quota counts our pods."""
    scopes = [str(scope) for scope in mapping(found, "spec").get("scopes") or []]
    for expression in objects(found, "spec", "scopeSelector", "matchExpressions"):
        if text(expression, "scopeName") != "PriorityClass":
            scopes.append(text(expression, "scopeName"))
        elif not _matches(surroundings.job.priority_class, expression):
            return False
    return all(scope in OUR_SCOPES for scope in scopes)


def _matches(name: str | None, expression: Object) -> bool:
    operator, values = text(expression, "operator"), expression.get("values") or []
    if operator in ("Exists", "DoesNotExist"):
        return (name is not None) == (operator == "Exists")
    return (name in values) == (operator == "In")


def _compare(surroundings: Surroundings, found: Object, refused: list[str], taken: list[str]) -> None:
    """Add what the quota does not hold at all, and what others use of it now."""
    name = text(found, "metadata", "name")
    for key, needed in _wanted(surroundings).items():
        hard, used = quantity(found, "spec", "hard", key), quantity(found, "status", "used", key) or Decimal(0)
        if hard is None:
            continue
        if needed > hard:
            refused.append(f"quota {name} has {key} {shown(key, hard)}, the job needs {shown(key, needed)}")
        elif needed > hard - used:
            left = f"{shown(key, hard - used)} left of {shown(key, hard)}"
            taken.append(f"quota {name} has {key} {left}, the job needs {shown(key, needed)}")


def _wanted(surroundings: Surroundings) -> dict[str, Decimal]:
    """What a quota counts, by its keys, for all pods of the job."""
    job = surroundings.job
    wanted = {
        "pods": Decimal(job.nodes),
        "count/pods": Decimal(job.nodes),
        f"count/{surroundings.kind.resource}": Decimal(1),
    }
    for name, each in surroundings.pod_resources.items():
        total = each * job.nodes
        wanted |= {name: total, f"requests.{name}": total, f"limits.{name}": total}
    return wanted


def _over_limit(surroundings: Surroundings, found: Object) -> list[str]:
    name, problems = text(found, "metadata", "name"), []
    for limit in objects(found, "spec", "limits"):
        if text(limit, "type") not in ("Pod", "Container"):
            continue
        for key, needed in surroundings.pod_resources.items():
            most, least = quantity(limit, "max", key), quantity(limit, "min", key)
            each = f"for each {text(limit, 'type').lower()}, the job needs {shown(key, needed)}"
            if most is not None and needed > most:
                problems.append(f"limit range {name} has {key} {shown(key, most)} at most {each}")
            if least is not None and needed < least:
                problems.append(f"limit range {name} has {key} {shown(key, least)} at least {each}")
    return problems


def pods(surroundings: Surroundings) -> Finding:
    """The API server would take a pod of the job, through whatever the cluster checks pods with."""
    client, where, job = surroundings.client, surroundings.namespace, surroundings.job
    if not client.may("create", PODS, where):
        return skipped("this account may not create pods, nor need a launcher: the operator makes them")
    template = pod_template(job, surroundings.kind.container, [], "Never")
    metadata = template["metadata"] | {"name": job.name}
    try:
        client.create(
            PODS, where, {"apiVersion": "v1", "kind": "Pod", **template, "metadata": metadata}, is_dry_run=True
        )
    except (RefusedError, ForbiddenError) as error:
        words = str(error).partition(": ")[2].partition("; nothing was changed")[0].partition("; docs/")[0]
        return failed(
            f"a pod of the job is refused: {words}", "change the job as these words ask, or ask who runs the cluster"
        )
    return ok("the API accepts a pod of the job")
