"""What is sent to the cluster, for both kinds of job."""

import os
from pathlib import Path

import pytest
import typer
import yaml
from hypothesis import given
from hypothesis import strategies as st

from radiffuse.cli import app
from tests.cluster_model.jobs import RUN, TOPOLOGIES, container, make_job, plain_env, pod_templates

GOLDEN = Path(__file__).parent.parent / "golden" / "jobs"
BACKENDS = ("pytorchjob", "trainjob")
EVERYTHING = (
    *("namespace=team-a", "service_account=trainer", "runtime_class=nvidia", "priority_class=research"),
    *("queue=research", "workload_priority=high", "topology.level=example.com/rack", "scratch=200Gi"),
    *("store.endpoint=minio.store:9000", "store.secure=true", "store.ca_secret=store-ca", "store.secret=minio"),
    *("store.access_key_entry=accesskey", "store.secret_key_entry=secretkey", "image_pull_secrets=[registry]"),
    *("tolerations=[{key: pool, value: gpu, effect: NoExecute}]", "node_selector={pool: gpu}"),
    *("network_interface=eth0", "nccl_ib_hca=mlx5", "extra_resources={rdma/hca: 1}", "env.TZ=UTC", "labels.team=a"),
    *("annotations={example.com/owner: b}", "grace_period_seconds=600"),
)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("name", "overrides"),
    [(f"{n}x{g}", (f"nodes={n}", f"gpus_per_node={g}")) for n, g in TOPOLOGIES]
    + [("cpu", ("nodes=1", "gpus_per_node=0", "processes_per_node=2")), ("everything", EVERYTHING)],
)
def test_a_job_is_rendered_as_recorded(backend: str, name: str, overrides: tuple[str, ...]) -> None:
    job = make_job(f"backend={backend}", "image=registry.example/radiffuse-train:1.0.0", *overrides)
    text = yaml.safe_dump_all(job.to_manifests(), sort_keys=False)
    path = GOLDEN / f"{backend}-{name}.yaml"
    if "RECORD_GOLDEN" in os.environ:  # how to record it again, when a change of the rendering is meant
        path.write_text(text)
    assert text == path.read_text()


@pytest.mark.parametrize(("nodes", "gpus"), TOPOLOGIES)
def test_the_operator_is_told_the_right_world_size(nodes: int, gpus: int) -> None:
    job = make_job(f"nodes={nodes}", f"gpus_per_node={gpus}")
    (manifest,) = job.to_manifests()
    replicas = manifest["spec"]["pytorchReplicaSpecs"]
    pods = sum(each["replicas"] for each in replicas.values())
    assert pods * int(manifest["spec"]["nprocPerNode"]) == nodes * gpus == job.world_size
    assert job.batches.total_batch_size == job.batches.share * job.world_size == 256


@given(nodes=st.integers(1, 64), gpus=st.integers(1, 64), backend=st.sampled_from(BACKENDS))
def test_any_topology_has_one_master_and_as_many_equal_pods_as_nodes(nodes: int, gpus: int, backend: str) -> None:
    run = RUN.model_copy(update={"total_batch_size": nodes * gpus})
    job = make_job(f"nodes={nodes}", f"gpus_per_node={gpus}", f"backend={backend}", run=run)
    *_, manifest = job.to_manifests()
    if backend == "pytorchjob":
        replicas = manifest["spec"]["pytorchReplicaSpecs"]
        assert replicas["Master"]["replicas"] == 1 and set(replicas) <= {"Master", "Worker"}
        assert sum(each["replicas"] for each in replicas.values()) == nodes
    else:
        assert manifest["spec"]["trainer"] == {"numNodes": nodes, "numProcPerNode": gpus}
    first, *others = pod_templates(job)
    assert all(other == first for other in others)
    assert container(first)["resources"]["limits"]["nvidia.com/gpu"] == str(gpus)


def test_rendering_twice_gives_the_same() -> None:
    assert yaml.safe_dump_all(make_job(*EVERYTHING).to_manifests()) == yaml.safe_dump_all(
        make_job(*EVERYTHING).to_manifests()
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_pod_is_what_restricted_pod_security_asks_for(backend: str) -> None:
    for template in pod_templates(make_job(f"backend={backend}")):
        pod, security = template["spec"]["securityContext"], container(template)["securityContext"]
        assert pod["runAsNonRoot"] and pod["runAsUser"] > 0 and pod["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not security["allowPrivilegeEscalation"] and security["capabilities"] == {"drop": ["ALL"]}
        assert security["readOnlyRootFilesystem"] and not template["spec"]["automountServiceAccountToken"]


def test_a_pod_keeps_all_that_it_asks_for_so_that_it_is_evicted_last() -> None:
    resources = container(pod_templates(make_job("scratch=1Gi"))[0])["resources"]
    assert resources["limits"] == resources["requests"]


def test_credentials_come_from_the_secret_and_no_value_of_them_is_sent() -> None:
    (template, _) = pod_templates(make_job())
    references = {e["name"]: e["valueFrom"]["secretKeyRef"] for e in container(template)["env"] if "valueFrom" in e}
    assert references["MINIO_SECRET_KEY"] == {"name": "radiffuse-store", "key": "MINIO_SECRET_KEY"}
    assert not any(name.startswith("MINIO_") for name in plain_env(template))


def test_an_address_in_the_document_is_not_asked_of_the_secret() -> None:
    (template, _) = pod_templates(make_job("store.endpoint=minio.store:9000", "store.secure=false"))
    names = [entry["name"] for entry in container(template)["env"]]
    assert (
        plain_env(template)["MINIO_ENDPOINT"] == "minio.store:9000" and plain_env(template)["MINIO_SECURE"] == "false"
    )
    assert names.count("MINIO_ENDPOINT") == names.count("MINIO_SECURE") == 1


@pytest.mark.parametrize("backend", BACKENDS)
def test_topology_variables_are_left_to_the_operator(backend: str) -> None:
    for template in pod_templates(make_job(f"backend={backend}")):
        names = [entry["name"] for entry in container(template)["env"]]
        assert not any(name.startswith("PET_") or name in ("RANK", "WORLD_SIZE") for name in names)
        assert len(names) == len(set(names))


def test_the_worker_understands_its_command_line() -> None:
    job = make_job("max_starts=7")
    name, *arguments = container(pod_templates(job)[0])["args"]
    taken = typer.main.get_group(app).commands[name].make_context(name, arguments).params
    assert (taken["plan"], taken["max_starts"], taken["grace_seconds"]) == (job.plan_uri, 7, job.worker_grace_seconds)


def test_the_worker_ends_before_the_kubelet_ends_it() -> None:
    template = pod_templates(make_job())[0]
    arguments = container(template)["args"]
    grace = int(arguments[arguments.index("--grace-seconds") + 1])
    assert 120 < grace < template["spec"]["terminationGracePeriodSeconds"]


def test_nccl_notices_a_dead_peer_and_both_libraries_use_the_interface_that_was_named() -> None:
    environment = plain_env(pod_templates(make_job("network_interface=ib0"))[0])
    assert environment["TORCH_NCCL_ASYNC_ERROR_HANDLING"] == "1"
    assert (environment["NCCL_SOCKET_IFNAME"], environment["GLOO_SOCKET_IFNAME"]) == ("=ib0", "ib0")


def test_a_job_on_cpus_asks_for_no_gpu_and_sets_nothing_of_nccl() -> None:
    (template,) = pod_templates(make_job("nodes=1", "gpus_per_node=0", "processes_per_node=2"))
    assert set(container(template)["resources"]["limits"]) == {"cpu", "memory"}
    assert not any("NCCL" in name for name in plain_env(template))


@pytest.mark.parametrize("backend", BACKENDS)
def test_pods_of_one_job_keep_apart_and_those_of_another_do_not_matter(backend: str) -> None:
    job = make_job(f"backend={backend}")
    for template in pod_templates(job):
        (term,) = template["spec"]["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        assert term["topologyKey"] == "kubernetes.io/hostname"
        assert term["labelSelector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
        assert job.name in term["labelSelector"]["matchLabels"].values()


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_queued_job_waits_for_kueue(backend: str) -> None:
    *others, manifest = make_job(f"backend={backend}", "queue=research").to_manifests()
    assert manifest["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "research"
    assert manifest["spec"].get("suspend", manifest["spec"].get("runPolicy", {}).get("suspend")) is True
    assert all("kueue.x-k8s.io/queue-name" not in other["metadata"]["labels"] for other in others)


def test_master_and_workers_share_one_topology_domain() -> None:
    overrides = ("queue=research", "topology.level=example.com/rack")
    for template in pod_templates(make_job(*overrides)):
        annotations = template["metadata"]["annotations"]
        assert annotations["kueue.x-k8s.io/podset-required-topology"] == "example.com/rack"
        assert annotations["kueue.x-k8s.io/podset-group-name"] == "roentgen-1k-01234567"
    (alone,) = pod_templates(make_job(*overrides, "nodes=1", "topology.required=false"))
    assert alone["metadata"]["annotations"]["kueue.x-k8s.io/podset-preferred-topology"] == "example.com/rack"
    assert "kueue.x-k8s.io/podset-group-name" not in alone["metadata"]["annotations"]


@pytest.mark.parametrize(("nodes", "max_restarts", "limit"), [(1, 0, 1), (1, 3, 4), (2, 10, 21), (8, 10, 81)])
def test_the_operator_counts_restarts_of_pods_where_we_count_those_of_the_gang(
    nodes: int, max_restarts: int, limit: int
) -> None:
    (manifest,) = make_job(f"nodes={nodes}", "gpus_per_node=8", f"max_restarts={max_restarts}").to_manifests()
    assert manifest["spec"]["runPolicy"]["backoffLimit"] == limit


def test_a_train_job_fails_for_good_on_the_exit_codes_that_no_retry_cures() -> None:
    runtime, _ = make_job("backend=trainjob").to_manifests()
    spec = runtime["spec"]["template"]["spec"]
    (rule,) = spec["replicatedJobs"][0]["template"]["spec"]["podFailurePolicy"]["rules"]
    assert (rule["action"], rule["onExitCodes"]["values"]) == ("FailJob", [2, 3])
    assert spec["failurePolicy"]["rules"][0]["action"] == "FailJobSet"
    assert spec["failurePolicy"]["maxRestarts"] == 10


def test_every_setting_of_a_job_changes_what_is_sent_or_is_the_launchers() -> None:
    """A setting that nothing reads is a bug; the launcher's are its deadlines."""
    before = make_job("queue=a").to_manifests()
    checks_only = {"run", "deadlines", "require_digest", "checkpoint_seconds", "shutdown_margin_seconds"}
    changed = {
        "backend": "trainjob", "namespace": "a", "nodes": 4, "gpus_per_node": 16, "gpu_resource": "amd.com/gpu",
        "processes_per_node": 64, "cpu_per_process": 3, "memory_per_process": "8Gi", "shared_memory_per_process": "1Gi",
        "scratch": "1Gi", "extra_resources": "{rdma/hca: 1}", "image": "a:1", "image_pull_policy": "Always",
        "image_pull_secrets": "[a]", "service_account": "a", "user_id": 7, "runtime_class": "a", "store.secret": "a",
        "env": "{A: b}", "labels": "{a: b}", "annotations": "{a: b}", "queue": "b", "workload_priority": "a",
        "topology.level": "a", "node_selector": "{a: b}", "tolerations": "[{key: a}]", "priority_class": "a",
        "node_lost_seconds": 5, "rendezvous_port": 29400, "rendezvous_timeout_seconds": 60,
        "network_interface": "eth0", "nccl_ib_hca": "mlx5", "nccl_debug": "INFO",
        "grace_period_seconds": 999, "max_restarts": 3, "max_starts": 3, "linger_seconds": 3, "metrics_port": 9999,
    }  # fmt: skip
    assert {name.partition(".")[0] for name in changed} | checks_only == set(type(make_job()).model_fields)
    same = [name for name, value in changed.items() if make_job("queue=a", f"{name}={value}").to_manifests() == before]
    assert same == []
