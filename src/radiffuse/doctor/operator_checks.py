"""The operator that makes a job's pods: its webhook answers, under a certificate that holds, and takes our job."""

import base64
import datetime
import warnings

from radiffuse.cluster.api_errors import ForbiddenError, UnavailableError
from radiffuse.cluster.fields import mapping, objects, text
from radiffuse.cluster.kinds import Object
from radiffuse.cluster.permissions import WEBHOOK_NAMES, Right
from radiffuse.cluster.resources import DEPLOYMENTS, ENDPOINT_SLICES, WEBHOOKS
from radiffuse.cluster.submit import dry_run as send_dry
from radiffuse.doctor.api_checks import installation
from radiffuse.doctor.finding import Finding, failed, ok, skipped, warning
from radiffuse.doctor.surroundings import MayNotLookError, Surroundings

SERVICE_LABEL = "kubernetes.io/service-name"
LEFT = datetime.timedelta(days=30)
INIT_OPTION = "--pytorch-init-container-template-file"
INIT_FOLDER = "/etc/config"
"""Where the operator looks for the template without that option."""
INIT_TEMPLATE = "manifests/training-operator/init-container.yaml"


def operator(surroundings: Surroundings) -> Finding:
    """Its webhook is registered, and something answers there."""
    kind = surroundings.kind
    services = []
    for name in WEBHOOK_NAMES[kind.name]:
        found = surroundings.find(WEBHOOKS, None, name)
        if found is None:
            return failed(f"there is no ValidatingWebhookConfiguration {name}", installation(kind))
        service = _service(found)
        if not service:
            continue  # called by address; the dry run tells whether it answers
        if problem := _unanswered(surroundings, service):
            return problem
        services.append("/".join(service))
    if not services:
        return ok("its webhook is registered, at an address outside the cluster")
    return ok(f"{' and '.join(services)} {'has a pod that is' if len(services) == 1 else 'have pods that are'} ready")


def certificate(surroundings: Surroundings) -> Finding:
    """The authority by which the API server checks the webhook is valid for a while."""
    ends = []
    for name in WEBHOOK_NAMES[surroundings.kind.name]:
        for webhook in objects(surroundings.find(WEBHOOKS, None, name), "webhooks"):
            bundle = text(webhook, "clientConfig", "caBundle")
            if not bundle:
                return failed(f"{name} has no certificate of an authority in its caBundle", _renew(surroundings))
            try:
                ends += _ends(base64.b64decode(bundle))
            except ValueError:
                return skipped(f"the certificate in the caBundle of {name} cannot be read here")
    if not ends:
        return skipped("no webhook to look at")
    left = min(ends) - datetime.datetime.now(datetime.UTC)
    if left < datetime.timedelta():
        return failed(f"it expired on {min(ends):%Y-%m-%d}, and the API refuses every job", _renew(surroundings))
    if left < LEFT:
        return warning(f"it expires on {min(ends):%Y-%m-%d}, in {left.days} days", _renew(surroundings))
    return ok(f"valid until {min(ends):%Y-%m-%d}")


def _ends(bundle: bytes) -> list[datetime.datetime]:
    """When each certificate of a PEM file expires; raises ValueError."""
    from cryptography import x509

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the operator gives its own authority the serial number 0
        return [each.not_valid_after_utc for each in x509.load_pem_x509_certificates(bundle)]


def dry_run(surroundings: Surroundings) -> Finding:
    """The API server and every webhook accept the job; nothing is kept."""
    try:
        answers = send_dry(surroundings.client, surroundings.job)
    except ForbiddenError as error:
        raise MayNotLookError(Right(surroundings.kind.resource, ("create",), ""), surroundings.namespace) from error
    except UnavailableError as error:
        if "failed calling webhook" not in str(error):
            raise
        return failed(
            f"a webhook cannot be called: {_after(str(error), 'failed calling webhook ')}",
            "start what serves it: the operator of the job, or the policy checker that the name says",
        )
    return ok(f"the API and its webhooks accept a {answers[-1]['kind']} of {surroundings.job.nodes} nodes")


def init_container(surroundings: Surroundings) -> Finding:
    """The container that the operator puts before each worker is one that the namespace admits."""
    job = surroundings.job
    if surroundings.kind.name != "PyTorchJob" or job.nodes == 1:
        return skipped("this job's pods get none")
    found = surroundings.find(WEBHOOKS, None, WEBHOOK_NAMES["PyTorchJob"][0])
    namespace, name = _service(found or {}) or ("kubeflow", "training-operator")
    deployment = surroundings.find(DEPLOYMENTS, namespace, name)
    if deployment is None:
        return skipped(f"there is no Deployment {namespace}/{name} to look at")
    for container in objects(deployment, "spec", "template", "spec", "containers"):
        words = [str(word) for key in ("command", "args") for word in container.get(key) or []]
        mounts = [text(mount, "mountPath").rstrip("/") for mount in objects(container, "volumeMounts")]
        if any(word.startswith(INIT_OPTION) for word in words) or INIT_FOLDER in mounts:
            return ok(f"{namespace}/{name} has a template of its own")
    return warning(
        f"{namespace}/{name} uses its built-in one, which is pulled from Docker Hub and refused where restricted Pod "
        "Security is enforced",
        f"give the operator {INIT_TEMPLATE} of this repository by {INIT_OPTION} (docs/jobs.md)",
    )


def _service(configuration: Object) -> tuple[str, str] | None:
    """Namespace and name of the Service behind the webhook, when it has one."""
    for webhook in objects(configuration, "webhooks"):
        if service := mapping(webhook, "clientConfig", "service"):
            return text(service, "namespace"), text(service, "name")
    return None


def _unanswered(surroundings: Surroundings, service: tuple[str, str]) -> Finding | None:
    namespace, name = service
    try:
        slices = surroundings.list_items(ENDPOINT_SLICES, namespace, f"{SERVICE_LABEL}={name}")
    except MayNotLookError as error:
        # The right is asked for cluster-wide, since the operator's namespace is not known beforehand.
        raise MayNotLookError(error.right, None) from error
    # An absent condition counts as ready.
    ready = [each for slice_ in slices for each in objects(slice_, "endpoints")
             if mapping(each, "conditions").get("ready") is not False]  # fmt: skip
    if ready:
        return None
    return failed(
        f"the Service {namespace}/{name} has no pod that is ready",
        f"see why: kubectl --namespace {namespace} get pods, then describe and logs of the one named {name}",
    )


def _renew(surroundings: Surroundings) -> str:
    services = {"PyTorchJob": "training-operator", "TrainJob": "kubeflow-trainer-controller-manager"}
    return (
        "renew it: where cert-manager issues it, check the Certificate and its caBundle injection; else restart "
        f"{services[surroundings.kind.name]}, which makes its own"
    )


def _after(words: str, mark: str) -> str:
    return words[words.index(mark) + len(mark) :]
