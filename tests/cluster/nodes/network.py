"""What makes names and Services work for pods: CoreDNS and one kube-proxy, as processes beside the API server."""

from pathlib import Path

import yaml

from tests.cluster.build import executable
from tests.cluster.certificates import write_kubeconfig
from tests.cluster.isolation import ADDRESS
from tests.cluster.nodes.probe import answers
from tests.cluster.plane import POD_RANGE, ControlPlane
from tests.cluster.processes import Server

START_SECONDS = 60.0
DNS_ADDRESS = ADDRESS
"""CoreDNS is no pod: names must resolve before the first pod can run."""
COREFILE = """cluster.local:53 in-addr.arpa:53 {{
  bind {address}
  errors
  health 127.0.0.1:8054
  kubernetes cluster.local in-addr.arpa {{
    kubeconfig {kubeconfig}
    ttl 1
  }}
  cache 1
}}
# A server of its own: plugins answer in a fixed order, and there `template` would come before `kubernetes`.
.:53 {{
  bind {address}
  template ANY ANY {{
    rcode NXDOMAIN
  }}
}}
"""
READ = ["get", "list", "watch"]
READER_RULES = [
    {"apiGroups": [""], "resources": ["endpoints", "namespaces", "nodes", "pods", "services"], "verbs": READ},
    {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": READ},
]


def start_name_service(plane: ControlPlane) -> Server:
    """CoreDNS, which knows the cluster's names and refuses all others; raises ServerError."""
    corefile = plane.folder / "Corefile"
    kubeconfig = reader_kubeconfig(plane, "coredns")
    corefile.write_text(COREFILE.format(address=DNS_ADDRESS, kubeconfig=kubeconfig), encoding="utf-8")
    server = plane.new_server("coredns", [str(executable("coredns")), "-conf", str(corefile)])
    server.start()
    server.wait_until_ready(lambda: answers("http://127.0.0.1:8054/health"), START_SECONDS)
    return server


def start_proxy(plane: ControlPlane) -> Server:
    """One kube-proxy for all nodes, since they share a network namespace; raises ServerError."""
    certificate, key = plane.authority.client("kube-proxy", "system:kube-proxy")
    credentials = {"client-certificate": str(certificate), "client-key": str(key)}
    kubeconfig = plane.folder / "kube-proxy.kubeconfig"
    write_kubeconfig(kubeconfig, plane.server, plane.authority.certificate, credentials, "default")
    path = plane.folder / "kube-proxy.yaml"
    path.write_text(yaml.safe_dump(_proxy_config(kubeconfig)), encoding="utf-8")
    server = plane.new_server("kube-proxy", [str(executable("kube-proxy")), f"--config={path}"])
    server.start()
    server.wait_until_ready(lambda: answers("http://127.0.0.1:10256/livez"), START_SECONDS)
    return server


def reader_kubeconfig(plane: ControlPlane, name: str) -> Path:
    """The kubeconfig of a new account of kube-system that may look at pods, Services and their endpoints."""
    rbac = "rbac.authorization.k8s.io"
    metadata = {"name": f"test-{name}"}
    role = {"apiGroup": rbac, "kind": "ClusterRole", "name": metadata["name"]}
    account = {"kind": "ServiceAccount", "name": name, "namespace": "kube-system"}
    plane.apply(
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": "kube-system"}},
        {"apiVersion": f"{rbac}/v1", "kind": "ClusterRole", "metadata": metadata, "rules": READER_RULES},
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": metadata,
            "roleRef": role,
            "subjects": [account],
        },
    )
    return plane.kubeconfig_for("kube-system", name)


def _proxy_config(kubeconfig: Path) -> dict[str, object]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "hostnameOverride": "node-0",
        "bindAddress": ADDRESS,
        "healthzBindAddress": "127.0.0.1:10256",
        "metricsBindAddress": "127.0.0.1:10249",
        "clientConnection": {"kubeconfig": str(kubeconfig)},
        "clusterCIDR": POD_RANGE,
        # The machine's own limits are not ours to change.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    }
