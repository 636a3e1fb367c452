"""The Training Operator beside the control plane, and the custom resources that all tests find there."""

from tests.cluster.build import manifests
from tests.cluster.isolation import ROOT
from tests.cluster.operator_process import Object, Operator, read_documents, rendered

OVERLAY = "manifests/overlays/standalone"
INIT_CONTAINER = ROOT / "manifests" / "training-operator" / "init-container.yaml"
"""As we tell users to give it: the built-in one is refused where restricted Pod Security is enforced, and asks a name
server in a way that new versions of its tool report as a failure."""
CRD_FOLDERS = (("trainer", "manifests/base/crds"), ("jobset", "config/components/crd/bases"))
WORKFLOW = {"plural": "workflows", "singular": "workflow", "kind": "Workflow"}


def training_operator(init_image: str) -> Operator:
    """With its own manifests' names; init_image: of the container that waits for the master, with sh and getent."""
    return Operator(
        executable="training-operator",
        namespace="kubeflow",
        account="training-operator",
        service="training-operator",
        service_port_name="webhook-server",
        secret="training-operator-webhook-cert",
        webhook_port=9443,
        health_port=8081,
        arguments=(
            "--enable-scheme=pytorchjob",
            "--metrics-bind-address=127.0.0.1:8080",
            "--health-probe-bind-address=127.0.0.1:8081",
            f"--pytorch-init-container-image={init_image}",
            "--pytorch-init-container-template-file=/tmp/initContainer.yaml",
            "--zap-log-level=info",
        ),
        files={"initContainer.yaml": INIT_CONTAINER.read_text(encoding="utf-8")},
    )


def custom_resources(init_image: str) -> list[Object]:
    """The operator's manifests for PyTorchJob, and the kinds of Trainer, JobSet and Argo.

    Without the operator's other kinds of job, whose schemas are 3 MB for the API server to digest.
    """
    objects = rendered(manifests("training-operator") / OVERLAY, training_operator(init_image))
    folders = [manifests(product) / folder for product, folder in CRD_FOLDERS]
    paths = [path for folder in folders for path in sorted(folder.glob("*_*.yaml"))]
    kinds = [each for path in paths for each in read_documents(path.read_text(encoding="utf-8"))]
    return [each for each in objects if not _is_other_job(each)] + [*kinds, _workflows()]


def _is_other_job(each: Object) -> bool:
    return bool(each["kind"] == "CustomResourceDefinition" and each["metadata"]["name"] != "pytorchjobs.kubeflow.org")


def _workflows() -> Object:
    """Argo's Workflow, of which owners are all that the tests need; its own module is not to be had."""
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    version = {"name": "v1alpha1", "served": True, "storage": True, "schema": schema}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "workflows.argoproj.io"},
        "spec": {"group": "argoproj.io", "names": WORKFLOW, "scope": "Namespaced", "versions": [version]},
    }
