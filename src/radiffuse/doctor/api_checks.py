"""The API server and the kinds of object that the job needs, in versions that we speak."""

import re

from radiffuse.cluster.kinds import JobKind, Resource
from radiffuse.cluster.resources import JOB_SETS
from radiffuse.cluster.submit import RUNTIMES
from radiffuse.doctor.finding import Finding, failed, ok, warning
from radiffuse.doctor.surroundings import Surroundings

OLDEST, NEWEST = 30, 37
"""Minor versions of Kubernetes 1 against whose schemas the manifests are checked."""
_OVERLAYS = {
    "PyTorchJob": "training-operator.git/manifests/overlays/standalone?ref=v1.9.4",
    "TrainJob": "trainer.git/manifests/overlays/manager?ref=v2.3.0",
}
"""As the operators' own documentation installs them; the second brings JobSet with it."""


def installation(kind: JobKind) -> str:
    """What to do where the operator of such jobs is missing."""
    return f'install {kind.operator}: kubectl apply --server-side -k "github.com/kubeflow/{_OVERLAYS[kind.name]}"'


def kubeconfig(surroundings: Surroundings) -> Finding:
    """The credentials can be read."""
    client = surroundings.connect()
    return ok(f"{client.server}, namespace {surroundings.namespace}")


def api_server(surroundings: Surroundings) -> Finding:
    """It answers, takes the credentials, and has a version that we support."""
    version = surroundings.client.version()
    match = re.match(r"v?1\.(\d+)", version)
    if match is None:
        return failed(f"it says that it is {version!r}", "name a Kubernetes API server in the kubeconfig")
    supported = f"1.{OLDEST} to 1.{NEWEST}"
    if int(match[1]) < OLDEST:
        return failed(f"Kubernetes {version} is older than {supported}", "upgrade the cluster, or use another one")
    if int(match[1]) > NEWEST:
        return warning(f"Kubernetes {version} is newer than {supported}", "upgrade radiffuse, if a newer one is there")
    return ok(f"Kubernetes {version}")


def kinds(surroundings: Surroundings) -> Finding:
    """The API has the kinds of object that the job consists of."""
    kind = surroundings.kind
    needed = (kind.resource,) if kind.name == "PyTorchJob" else (kind.resource, RUNTIMES, JOB_SETS)
    problems = [problem for resource in needed if (problem := _unknown(surroundings, resource))]
    if problems:
        return failed("; ".join(problems), installation(kind))
    return ok(", ".join(f"{resource} {resource.version}" for resource in needed))


def _unknown(surroundings: Surroundings, resource: Resource) -> str | None:
    if surroundings.client.knows(resource):
        return None
    versions = [each for each in surroundings.client.versions(resource.group) if each != resource.version]
    served = [
        version for version in versions if surroundings.client.knows(Resource(resource.group, version, resource.plural))
    ]
    if served:
        return f"{resource} is served as {', '.join(served)}, not as {resource.version}"
    return f"the API knows no {resource}"
