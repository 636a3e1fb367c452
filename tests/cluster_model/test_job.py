"""A job document: what follows from it, and how a wrong one is refused."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from radiffuse.cluster.job import JOB_PRESETS, job_preset_names, load_job
from radiffuse.cluster.sections import RunFacts
from radiffuse.config import TrainSettings
from radiffuse.errors import ConfigError
from radiffuse.manifest import Kind, Manifest
from radiffuse.train_plan import plan_training
from tests.cluster_model.jobs import RUN, make_job

DIGEST = "sha256:" + "ab" * 32
LONG_NAME = "r" * 40


@pytest.mark.parametrize("name", job_preset_names())
def test_every_preset_loads_and_says_what_it_needs(name: str) -> None:
    assert load_job(name, run=RUN).world_size in (1, 2, 8, 64)
    header = (JOB_PRESETS / f"{name}.yaml").read_text().split("\nnodes:")[0]
    assert all(word in header for word in ("# Command:", "# Needs:"))


def test_a_job_document_need_not_say_anything() -> None:
    job = load_job("{}", run=RUN)
    assert (job.nodes, job.gpus_per_node, job.world_size, job.backend) == (2, 32, 64, "pytorchjob")


def test_a_job_document_may_be_a_file(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text("nodes: 4\ngpus_per_node: 8\n")
    assert load_job(str(tmp_path / "job.yaml"), run=RUN).world_size == 32


def test_a_job_that_does_not_exist_is_named_with_those_that_do() -> None:
    with pytest.raises(ConfigError, match=r"no configuration '3x3': .*; presets are 1x1, 1x8, 2x32, 4x16, 8x8, laptop"):
        load_job("3x3", run=RUN)


def test_a_job_survives_the_way_through_json() -> None:
    job = make_job("topology.level=a/rack", "queue=research", "tolerations=[{key: a}]", "env.A=1")
    assert type(job).model_validate_json(job.model_dump_json()) == job


def test_the_run_decides_its_facts_and_a_document_must_not() -> None:
    with pytest.raises(ConfigError, match="run: not for a job document to say, the run decides it; leave it out"):
        load_job(json.dumps({"run": RUN.model_dump()}), run=RUN)


def test_a_job_takes_from_its_run_what_the_plan_says() -> None:
    settings = TrainSettings(total_batch_size=64, train_batch_size=4, dataloader_workers=3)
    plan = plan_training("demo", manifest("latents"), manifest("model"), settings, processes=None)
    job = load_job("1x8", run=RunFacts.of(plan))
    assert job.checkpoints_uri == plan.checkpoints_uri and job.name == f"demo-{plan.digest[:8]}"
    assert (job.batches.share, job.batches.micro_batch_size, job.cpu) == (8, 4, "40")


def manifest(kind: Kind) -> Manifest:
    return Manifest(kind=kind, name=kind, uri=f"s3://{kind}/a", digest="a")


def test_resources_follow_from_the_processes_of_a_node() -> None:
    job = make_job()
    assert (job.cpu, job.memory, job.shared_memory) == ("64", "512Gi", "16Gi")
    assert (make_job("cpu_per_process=500m").cpu, make_job("memory_per_process=1000M").memory) == ("16", "31250000Ki")


def test_a_cpu_job_has_the_processes_that_it_asks_for() -> None:
    job = make_job("nodes=1", "gpus_per_node=0", "processes_per_node=4")
    assert (job.processes, job.world_size) == (4, 4)


def test_the_grace_period_follows_from_the_longest_checkpoint() -> None:
    job = make_job("checkpoint_seconds=300")
    assert job.grace_seconds == 330 and 300 < job.worker_grace_seconds < 330


def test_a_label_or_variable_that_yaml_reads_as_a_number_is_the_text_that_was_meant() -> None:
    job = make_job("env.LEVEL=2", "labels.cost=7", "annotations.a=true")
    assert (job.env, job.labels, job.annotations) == ({"LEVEL": "2"}, {"cost": "7"}, {"a": "true"})


@given(nodes=st.integers(1, 64), gpus=st.integers(1, 64), share=st.integers(1, 32))
def test_any_topology_cuts_the_same_batch_over_all_its_processes(nodes: int, gpus: int, share: int) -> None:
    run = RUN.model_copy(update={"total_batch_size": nodes * gpus * share, "train_batch_size": 32})
    job = make_job(f"nodes={nodes}", f"gpus_per_node={gpus}", run=run)
    batches = job.batches
    assert batches.micro_batch_size * batches.micro_steps * job.world_size == run.total_batch_size


def test_a_job_keeps_its_name_and_its_places_whatever_the_topology() -> None:
    one, many = make_job("nodes=1", "gpus_per_node=1"), make_job()
    assert (one.name, one.plan_uri) == (many.name, many.plan_uri)
    assert many.plan_uri == "s3://checkpoints/roentgen-1k-0123456789abcdef/plan.json"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("nodez=2", r"^nodez: unknown setting; did you mean nodes\?$"),
        ("deadlines.pull_seconds=2", r"^deadlines\.pull_seconds: unknown setting; did you mean pulled_seconds\?$"),
        ("nodes=0", r"nodes: Input should be greater than or equal to 1 \(found 0\)"),
        ("namespace=Team_A", r"namespace: must be a DNS label: lower-case letters.*\(found 'Team_A'\)"),
        ("queue=1queue", r"queue: must be a DNS-1035 label: lower-case letters, digits and '-', a letter first"),
        ("store.secret=My_Secret", r"store\.secret: must be an object's name: DNS labels"),
        ("store.secret_key_entry=a/b", r"store\.secret_key_entry: must be the name of a secret's entry"),
        ("gpu_resource=gpu of mine", r"gpu_resource: must be a label's key, such as nvidia\.com/gpu or team"),
        ("labels.team=a b", r"labels\.team: must be a label's value: letters, digits and '-_\.', at most 63"),
        ("image=radiffuse", r"image: must name a version, by a tag other than latest or by digest"),
        ("image=registry.example/radiffuse:latest", r"image: must name a version, by a tag other than latest"),
        ("image=registry.example/Radiffuse:1", r"image: must be an image: \[registry\[:port\]/\]name with :tag"),
        ("image=radiffuse@sha256:abc", r"image: must be an image: .*@sha256:<64 hexadecimal digits>"),
        ("require_digest=true", r"image radiffuse-train:\S+ is named by tag alone and require_digest is set: add @sha"),
        ("cpu_per_process=two", r"cpu_per_process: must be a Kubernetes quantity above 0, such as 4, 500m.*'two'"),
        ("cpu_per_process=0.0001", r"cpu_per_process: must be a whole number of thousandths of a core"),
        ("memory_per_process=16GB", r"memory_per_process: must be a Kubernetes quantity above 0.*\(found '16GB'\)"),
        ("memory_per_process=-1Gi", r"memory_per_process: must be a Kubernetes quantity above 0"),
        ("memory_per_process=512m", r"memory_per_process: must be at least 1Mi of memory; .* m thousandths of a byte"),
        ("shared_memory_per_process=16Gi", r"shared_memory_per_process 16Gi must be less than memory_per_process 16Gi"),
        ("extra_resources={cpu: 1}", r"extra_resources must not hold cpu, which other settings decide"),
        ("extra_resources={rdma/hca: many}", r"extra_resources\.rdma/hca: must be a Kubernetes quantity"),
        ("gpus_per_node=0", r"gpus_per_node is 0, so processes_per_node must say how many processes train on a node"),
        ("processes_per_node=33", r"processes_per_node 33 must be gpus_per_node 32 or a multiple of it"),
        ("nodes=3", r"3 nodes x 32 processes = 96: .*256 does not divide over 96 processes; .*: 8, 16, 32, 64, 128$"),
        ("grace_period_seconds=149", r"grace_period_seconds 149 is too short: .*checkpoint_seconds 120 .*at least 150"),
        ("user_id=2147483648", r"user_id: Input should be less than or equal to 2147483647"),
        ("node_lost_seconds=2592001", r"node_lost_seconds: Input should be less than or equal to 2592000"),
        ("deadlines.queued_seconds=1e99", r"deadlines\.queued_seconds: "),
        ("memory_per_process=1025Ti", r"memory_per_process: must be at most 1024Ti \(found '1025Ti'\)"),
        ("memory_per_process=\u0661Gi", r"memory_per_process: must be a Kubernetes quantity above 0"),
        ("nccl_ib_hca=mlx\u0665", r"nccl_ib_hca: String should match pattern"),
        ("image=radiffuse:\u0661", r"image: must be an image"),
        ("store.endpoint=http://minio:9000", r"store\.endpoint: must be host:port \(found 'http://minio:9000'\)"),
        ("store.endpoint=minio:90000", r"store\.endpoint: must be host:port"),
        ("user_id=0", r"user_id: Input should be greater than or equal to 1"),
        ("env.PET_NNODES=2", r"env\.PET_NNODES: belongs to torchrun and is set by the operator"),
        ("env.MASTER_ADDR=x", r"env\.MASTER_ADDR: belongs to torchrun"),
        ("env.MINIO_ENDPOINT=x", r"env\.MINIO_ENDPOINT: comes from an existing secret, never from a job document"),
        ("env.HF_TOKEN=x", r"env\.HF_TOKEN: looks like a secret, and whoever may read the job could read it"),
        ("env.PASSWORD1=x", r"^env\.PASSWORD1: looks like a secret, .*; env holds no secrets$"),
        ("env.NCCL_DEBUG=INFO", r"env must not hold NCCL_DEBUG, which the job sets itself"),
        ("env.1A=x", r"env\.1A: must be a variable's name"),
        ("labels={radiffuse.org/plan: x}", r"labels must not hold radiffuse\.org/plan, which the job sets itself"),
        ("annotations={sidecar.istio.io/inject: x}", r"annotations must not hold sidecar\.istio\.io/inject"),
        ("tolerations=[{value: a}]", r"tolerations\.0: a toleration with a value needs the taint's key"),
        ("workload_priority=high", r"workload_priority is Kueue's and needs a queue: set queue to a LocalQueue"),
        ("topology.level=a/rack", r"topology is Kueue's and needs a queue"),
        ("metrics_port=23456", r"metrics_port 23456 is taken: the processes meet on 23456 for torchrun and 23457 for"),
        ("metrics_port=23457", r"metrics_port 23457 is taken: .*; choose another metrics_port"),
        ("deadlines.started_seconds=600", r"started_seconds 600 must be more than rendezvous_timeout_seconds 600"),
    ],
)
def test_a_wrong_setting_is_refused_with_what_would_be_right(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_job(override)


@pytest.mark.parametrize(
    "name", ["DBPASS", "DB_PASS2", "MYSQL_PWD", "PGPASSWORD", "HFTOKEN", "API_KEY2", "CLIENTSECRET", "AWS_CREDENTIALS"]
)
def test_a_variable_that_may_be_a_secret_is_refused_wherever_its_name_says_so(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"^env\.{name}: looks like a secret"):
        make_job(f"env.{name}=x")


@pytest.mark.parametrize("name", ["TOKENIZERS_PARALLELISM", "NCCL_BYPASS", "MONKEY", "PASSES", "MAX_TOKENS"])
def test_a_variable_that_only_resembles_a_secret_is_accepted(name: str) -> None:
    assert make_job(f"env.{name}=x").env == {name: "x"}


@pytest.mark.parametrize("endpoint", ["minio", "minio.store:9000", "10.0.0.1:9000", "[fd00::1]:9000", "[fd00::1]"])
def test_a_store_is_named_by_host_and_port(endpoint: str) -> None:
    assert make_job(f"store.endpoint='{endpoint}'").store.endpoint == endpoint


def test_an_image_by_digest_is_accepted_where_one_is_demanded() -> None:
    job = make_job("require_digest=true", f"image=registry.example:5000/team/radiffuse:1.2@{DIGEST}")
    assert job.image.endswith(DIGEST)


def test_a_port_for_a_train_job_is_refused() -> None:
    with pytest.raises(ConfigError, match="rendezvous_port is for a PyTorchJob; Trainer always uses 29500"):
        make_job("backend=trainjob", "rendezvous_port=29500")


def test_a_micro_batch_that_does_not_fit_is_refused_without_talk_of_processes() -> None:
    run = RUN.model_copy(update={"total_batch_size": 768})
    with pytest.raises(ConfigError, match=r"has 12 of train\.total_batch_size 768, .*; sizes that do: \[3, 4, 6\]$"):
        make_job(run=run)


@pytest.mark.parametrize("name", ["Demo", "1demo", "demo-", "demo.x", "d_x", ""])
def test_a_run_whose_name_is_no_dns_label_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"run\.name: must be a DNS-1035 label: lower-case letters, digits and '-'"):
        load_job("2x32", run=RUN.model_dump() | {"name": name})


def test_a_name_leaves_room_for_the_pods_names() -> None:
    run = RUN.model_copy(update={"name": LONG_NAME})
    assert len(make_job(run=run).name) == 49
    with pytest.raises(ConfigError, match=r"is too long: its pods would be named \S+-node-0-1-xxxxx, 64 .*at most 39"):
        make_job("backend=trainjob", run=run)


def test_the_document_with_a_secret_in_it_is_not_repeated_in_the_error() -> None:
    with pytest.raises(ConfigError) as refusal:
        make_job("env.WANDB_API_KEY=hunter2", "store.password=hunter2")
    assert "hunter2" not in str(refusal.value)


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(ConfigError, match=r"3 nodes x 32 .*; image \S+ is named by tag alone.*; topology is Kueue's"):
        make_job("nodes=3", "require_digest=true", "topology.level=a/rack")


def test_an_override_that_cannot_be_read_is_said_of_the_option_that_gave_it() -> None:
    with pytest.raises(ConfigError, match=r"^--set-job takes section\.field=value, not 'nodes'"):
        make_job("nodes")
    with pytest.raises(ConfigError, match=r"^--set-job env\.A is not valid YAML"):
        make_job("env.A=[")
