"""Clusters with one thing wrong: how each is made, which check says so, in which words, and what it advises."""

from pathlib import Path
from typing import NamedTuple

from radiffuse.cluster.kinds import EVENTS, PYTORCHJOB
from radiffuse.cluster.permissions import WEBHOOK_NAMES, rights
from radiffuse.doctor.finding import Verdict
from tests.cluster.doctor_breaking import (
    Breaking,
    behind_clock,
    changing,
    expire,
    in_no_namespace,
    lacking,
    lead_nowhere,
    with_expired_certificate,
    with_kubeconfig,
    with_nodes,
    with_older_kfp,
    with_secret,
    without_bucket,
    without_endpoints,
    without_kind,
    without_label,
    without_operator,
    without_rights_of_steps,
    without_webhook,
)
from tests.cluster.doctor_site import (
    NAMESPACE,
    NO_QUEUE,
    POD_MONITOR,
    PRIORITY_CLASS,
    PROMETHEUS,
    QUEUE,
    REGISTRY,
    RUNTIME_CLASS,
    TRAINER,
    WORKLOAD_PRIORITY,
    kueue_configuration,
    limit_range,
    operator_deployment,
    quota,
)
from tests.cluster.fake_nodes import CAPACITY

FAILED, WARNING = Verdict.failed, Verdict.warning


class Broken(NamedTuple):
    """One of them; `text` and `fix` are regular expressions that the finding must match."""

    name: str
    breaking: Breaking
    check: str
    verdict: Verdict
    text: str
    fix: str


GPU = "allocatable|nvidia.com/gpu"
EVENTS_RIGHT = next(right for right in rights() if right.resource == EVENTS)
JOBS_RIGHT = next(right for right in rights() if right.resource == PYTORCHJOB.resource)
OTHER_LABEL = {**POD_MONITOR, "metadata": {**POD_MONITOR["metadata"], "labels": {"release": "another"}}}
INACTIVE = {"conditions": [{"type": "Active", "status": "False", "message": "ClusterQueue gpus is stopped"}]}
CLUSTERS = (
    Broken("no kubeconfig", changing(kubeconfig=Path("/nowhere")), "kubeconfig", FAILED,
           "no kubeconfig at /nowhere", "name one with --kubeconfig"),
    Broken("an expired token", with_kubeconfig(expire), "API server", FAILED,
           "did not accept the credentials", "log in again, or ask for a new kubeconfig"),
    Broken("no API server", with_kubeconfig(lead_nowhere), "API server", FAILED,
           "cannot reach https://127.0.0.1:1", "check the server's address"),
    Broken("no CRD", without_kind, "kinds", FAILED,
           "the API knows no pytorchjobs.kubeflow.org", "install Kubeflow Training Operator 1.9: kubectl apply"),
    Broken("no Trainer", changing(job={"backend": "trainjob"} | NO_QUEUE), "operator", FAILED,
           "no ValidatingWebhookConfiguration validator.trainer.kubeflow.org", "install Kubeflow Trainer 2.3"),
    Broken("no webhook", without_webhook, "operator", FAILED,
           f"no ValidatingWebhookConfiguration {WEBHOOK_NAMES['PyTorchJob'][0]}", "install Kubeflow Training Operator"),
    Broken("no pod of the operator", without_endpoints, "operator", FAILED,
           "kubeflow/training-operator has no pod that is ready", "kubectl --namespace kubeflow get pods"),
    Broken("a dead operator", without_operator, "dry run", FAILED,
           'cannot be called: "validator.pytorchjob.training-operator', "start what serves it"),
    Broken("an expired certificate", with_expired_certificate, "certificate", FAILED,
           "it expired on 20", "restart training-operator, which makes its own"),
    Broken("a built-in init container", lambda site: site.instead(operator_deployment("--x"),
           operator_deployment("--pytorch-init-container-template-file=/x")), "init container", WARNING,
           "pulled from Docker Hub", "give the operator manifests/training-operator/init-container.yaml"),
    Broken("no namespace", in_no_namespace, "namespace", FAILED,
           "there is no namespace 'nowhere'", "kubectl create namespace nowhere"),
    Broken("a namespace that enforces nothing", without_label, "pod security", WARNING,
           "no level is enforced", f"kubectl label --overwrite namespace {NAMESPACE} pod-security"),
    Broken("a right that is needed", lacking(JOBS_RIGHT), "permissions", FAILED,
           f"serviceaccount:{NAMESPACE}:launcher may not get, list, watch, create, patch, delete pytorchjobs",
           r"- {apiGroups: \[kubeflow.org\], resources: \[pytorchjobs\], verbs: \[get, list, watch, create, patch"),
    Broken("a right that is optional", lacking(EVENTS_RIGHT), "permissions", WARNING,
           "may not list, watch events", r"- {apiGroups: \[''\], resources: \[events\], verbs: \[list, watch\]}"),
    Broken("no secret", lambda site: site.without(site.secret), "secrets", FAILED,
           "no secret 'radiffuse-store' in namespace doctor",
           "kubectl --namespace doctor create secret generic radiffuse-store --from-literal=MINIO_ACCESS_KEY=..."),
    Broken("a secret without an entry", with_secret(MINIO_SECRET_KEY=None), "secrets", FAILED,
           "the secret 'radiffuse-store' in namespace doctor has no MINIO_SECRET_KEY", "create secret generic"),
    Broken("no pull secret", lambda site: site.without(REGISTRY), "secrets", FAILED,
           "no secret 'registry' in namespace doctor", "create secret docker-registry registry --docker-server="),
    Broken("an image by tag", changing(job={"image": "radiffuse.test/train:1"}), "image", WARNING,
           "radiffuse.test/train:1 is named by a tag", "@sha256:"),
    Broken("no service account", lambda site: site.without(TRAINER), "service account", FAILED,
           "there is no 'trainer'", "kubectl --namespace doctor create serviceaccount trainer"),
    Broken("no runtime class", lambda site: site.without(RUNTIME_CLASS), "runtime class", FAILED,
           "there is no 'doctor-runtime'", "set runtime_class to one that"),
    Broken("no priority class", lambda site: site.without(PRIORITY_CLASS), "priority class", FAILED,
           "there is no 'doctor-priority'", "set priority_class to one that"),
    Broken("a small quota", lambda site: site.with_(quota(**{"requests.nvidia.com/gpu": "8"})), "quota", FAILED,
           "quota team has requests.nvidia.com/gpu 8, the job needs 64", "ask who runs the cluster for more"),
    Broken("a small limit", lambda site: site.with_(limit_range(memory="64Gi")), "quota", FAILED,
           "limit range team has memory 64Gi at most for each container, the job needs 512Gi", "ask who runs"),
    Broken("no GPUs", with_nodes(f"status.{GPU}", None, CAPACITY["nvidia.com/gpu"], "gpu-0", "gpu-1"), "GPUs", FAILED,
           "none of 2 nodes has nvidia.com/gpu", "install the vendor's device plugin"),
    Broken("a node with fewer GPUs", with_nodes(f"status.{GPU}", "20", CAPACITY["nvidia.com/gpu"], "gpu-1"), "gang",
           FAILED, "1 of 2 nodes hold a pod of .* and the job needs 2: 1 with nvidia.com/gpu 20",
           "--set-job nodes=2 --set-job gpus_per_node=20"),
    Broken("a node with less memory", with_nodes("status.allocatable|memory", "100Gi", CAPACITY["memory"], "gpu-0"),
           "gang", FAILED, "1 with memory 100Gi", "--set-job nodes=1 --set-job gpus_per_node=32"),
    Broken("a cordoned node", with_nodes("spec.unschedulable", True, None, "gpu-0"), "gang", FAILED,
           "the job needs 2: 1 cordoned", "add nodes, or use what fits: --set-job nodes=1"),
    Broken("a label that no node has", changing(job={"node_selector": {"zone": "b"}}), "gang", FAILED,
           "0 of 2 nodes hold .* 2 without the label zone=b", "add nodes, or change tolerations, node_selector"),
    Broken("no queue", lambda site: site.without(QUEUE), "queue", FAILED,
           "there is no LocalQueue 'team-a' in namespace doctor", "get localqueues` lists"),
    Broken("a stopped queue", lambda site: site.instead({**QUEUE, "status": INACTIVE}, QUEUE), "queue", FAILED,
           "team-a takes no jobs: ClusterQueue gpus is stopped", "kubectl describe clusterqueue gpus"),
    Broken("a kind that Kueue does not manage", lambda site: site.instead(kueue_configuration("batch/job"),
           kueue_configuration("kubeflow.org/pytorchjob")), "queue integration", FAILED,
           "Kueue does not manage kubeflow.org/pytorchjob", "add kubeflow.org/pytorchjob to integrations.frameworks"),
    Broken("no workload priority", lambda site: site.without(WORKLOAD_PRIORITY), "workload priority", FAILED,
           "there is no WorkloadPriorityClass 'doctor-urgent'", "set workload_priority to one"),
    Broken("no store settings", changing(environment={"MINIO_SECRET_KEY": ""}), "store settings", FAILED,
           "MINIO_SECRET_KEY is not set, nor MINIO_SECRET_KEY_FILE", "set it to reach your store"),
    Broken("a store that is down", changing(environment={"MINIO_ENDPOINT": "127.0.0.1:1"}), "store", FAILED,
           r"cannot reach the store at 127\.0\.0\.1:1 .*refused", "check MINIO_ENDPOINT"),
    Broken("a store without TLS", changing(environment={"MINIO_SECURE": "true"}), "store", FAILED,
           "no trusted TLS connection to 127", "MINIO_SECURE=false for a store without TLS"),
    Broken("a clock that is off", behind_clock(-300), "store clock", WARNING,
           r"the store's clock is (299|300|301) s behind this one's", "set both clocks by NTP"),
    Broken("a clock that is far off", behind_clock(1200), "store clock", FAILED,
           r"the store's clock is (1199|1200|1201) s ahead of this one's, and it refuses", "set both clocks by NTP"),
    Broken("a wrong key here", changing(environment={"MINIO_SECRET_KEY": "wrong-key-wrong-key"}), "store buckets",
           FAILED, "refused access to s3://datasets", "check MINIO_ACCESS_KEY and MINIO_SECRET_KEY"),
    Broken("no bucket", without_bucket, "store buckets", FAILED,
           "there are no buckets prompts", "radiffuse store init"),
    Broken("a wrong key there", with_secret(MINIO_SECRET_KEY="d3Jvbmcta2V5LXdyb25nLWtleQ=="), "store of the pods",
           FAILED, "the store does not accept the keys in the secret 'radiffuse-store'", "put those of an account"),
    Broken("a key there that no request carries", with_secret(MINIO_ACCESS_KEY="cmVhZGVyw6k="), "store of the pods",
           FAILED, "'radiffuse-store' in namespace doctor: its MINIO_ACCESS_KEY holds characters that are not ASCII",
           "kubectl --namespace doctor patch secret radiffuse-store --patch .{.stringData.: {.MINIO_ACCESS_KEY.: "),
    Broken("another store there", with_secret(MINIO_ENDPOINT="b3RoZXI6OTAwMA=="), "store of the pods", WARNING,
           "names another store than MINIO_ENDPOINT does", "give both the same address"),
    Broken("no KFP", changing(kfp_endpoint="127.0.0.1:1"), "KFP", FAILED,
           "http://127.0.0.1:1/apis/v2beta1/healthz does not answer", "check --kfp-endpoint"),
    Broken("an old KFP", with_older_kfp, "KFP", FAILED, r"KFP 1\.8\.5", "install KFP 2.17"),
    Broken("steps without rights", without_rights_of_steps, "KFP account", FAILED,
           f"system:serviceaccount:{NAMESPACE}:pipeline-runner may not get, .* pytorchjobs; list, watch events",
           r"- {apiGroups: \[kubeflow.org\]"),
    Broken("no PodMonitor", lambda site: site.without(POD_MONITOR), "PodMonitor", WARNING,
           f"no PodMonitor in namespace {NAMESPACE} selects", "podMonitor.enabled"),
    Broken("a PodMonitor that nobody picks", lambda site: site.instead(OTHER_LABEL, POD_MONITOR), "Prometheus", WARNING,
           "no Prometheus picks", "doctor/main wants release=monitoring on a PodMonitor"),
    Broken("no Prometheus", lambda site: site.without(PROMETHEUS), "Prometheus", WARNING,
           "the cluster has no Prometheus", "make one"),
)  # fmt: skip
ALSO = {
    # What these leave nothing of for others to find; every other check says what it says of the healthy cluster.
    "a right that is needed": {"dry run": Verdict.skipped},
    "no PodMonitor": {"Prometheus": Verdict.skipped},
}
