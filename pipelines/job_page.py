"""docs/jobs.md: what a job document may say, from the model that reads it, and what a pod gets of it."""

from pathlib import Path
from typing import Any

from radiffuse import __version__
from radiffuse.cluster.environment import plain_environment
from radiffuse.cluster.job import TrainingJob, job_preset_names, load_job
from radiffuse.cluster.sections import RunFacts

SECTIONS = ("StoreAccess", "Topology", "Toleration", "Deadlines")
TITLES = {
    "StoreAccess": "`store`: where the object store is",
    "Topology": "`topology`: where Kueue places the pods",
    "Toleration": "`tolerations`: each entry",
    "Deadlines": "`deadlines`: how long a phase may last",
}
RUN = RunFacts(name="roentgen-1k", digest="0" * 16, total_batch_size=256, train_batch_size=8)
EVERY_VARIABLE = ("store.ca_secret=a", "store.endpoint=a", "store.secure=true", "network_interface=a", "nccl_ib_hca=a")
VARIABLES = {
    "HOME": "`/tmp`: the root file system is read-only",
    "RADIFFUSE_CACHE": "data and weights that the run has fetched, below `/tmp`",
    "RADIFFUSE_PROGRESS": "`lines`: no bars in a log",
    "OMP_NUM_THREADS": "cores of a process, `cpu_per_process` rounded down, at least 1",
    "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": "seconds that torchrun leaves its ranks to save: the grace period less 10",
    "TORCH_NCCL_ASYNC_ERROR_HANDLING": "1: a rank whose peer has died ends itself",
    "NCCL_DEBUG": "`nccl_debug`",
    "NCCL_SOCKET_IFNAME": "`network_interface`, exactly that one",
    "GLOO_SOCKET_IFNAME": "`network_interface`",
    "NCCL_IB_HCA": "`nccl_ib_hca`",
    "MINIO_ENDPOINT": "`store.endpoint`; else the secret's entry, as with the two keys, which are never in the job",
    "MINIO_SECURE": "`store.secure`; else the secret's entry, if it has one",
    "MINIO_CA_CERT": "where the certificate of `store.ca_secret` is mounted",
}


INTRODUCTION = """# Training jobs

A job document says where a run is trained: on how many nodes and GPUs, with which image, how long each phase may last.
What is learnt is the run's own configuration and never stands here; the same run keeps its name, its address and its
checkpoints whatever the job, so it may go on tomorrow on other nodes.

    radiffuse job render --job 2x32 --data latents.json --model model.json --config roentgen-1k
    radiffuse job render --job 8x8 --set-job backend=trainjob --data latents.json --model model.json -c roentgen-1k

A job is a preset's name, a YAML file or a JSON document; all that it leaves out has the default below.

```yaml
nodes: 2
gpus_per_node: 32
image: registry.example/radiffuse-train:1.0.0@sha256:...
require_digest: true
namespace: radiology
queue: research              # Kueue; needs its integration for this kind of job
store: {secret: minio-credentials, ca_secret: minio-ca}
checkpoint_seconds: 180
```

## What follows from nodes and GPUs

Each pod has a node of its own and one process per GPU. The global batch of the run is cut equally over all processes;
a number of processes that does not divide it is refused, and those that do are listed. For a run with 256 images per
step and at most 8 per process at a time:

"""
FOLLOWS = """

CPU is 2 cores per process and one more for each of `train.dataloader_workers`, which are threads and need no shared
memory of their own; `/dev/shm` is what NCCL and gloo exchange data in. Requests are limits, so the pods are of the
Guaranteed class and are evicted last. 2 x 32, 4 x 16 and 8 x 8 learn the same to rounding: take what the nodes have.

Without a gang scheduler two jobs can each hold half of the nodes and wait for the other half. A Kueue queue admits a
job whole or not at all, and a job with a `queue` is created suspended: where Kueue does not manage its kind, it waits
until `deadlines.queued_seconds` has passed instead of taking what is not its own.

## How long a stop may take

A pod that is to go gets SIGTERM: all ranks finish the step, save and end. `grace_period_seconds` must hold the longest
checkpoint, `checkpoint_seconds`, and `shutdown_margin_seconds`. Take the first from a log of the same model and store:
the largest `upload_seconds` of the lines `checkpoint step=... size_bytes=... upload_seconds=...`, doubled, since a
busy store is slower on the day that every pod of a drained node saves at once. Full state of Stable Diffusion 1.4 is
about 14 GB: 70 s at 200 MB/s. A grace period that is too short is refused.

Restarts count for the gang: `max_restarts: 10` lets it start 11 times. The Training Operator adds up the restarts of
all pods, so `backoffLimit` is that times the nodes, plus 1. `max_starts` is another bound: that many starts in a row
without a newer checkpoint, and the run gives up with the last reason, for every later start too.

## Settings

"""
BACKENDS = """

## What a pod gets

It runs `radiffuse worker` in the container `pytorch` (PyTorchJob) or `node` (TrainJob). The job gives only `args`:
the image's entry point, `dumb-init --single-child -- radiffuse`, is process 1, so that SIGTERM is obeyed before Python
is up; an image of your own needs such a one. Which node it is and how many there are says the operator, in
`PET_NNODES`, `PET_NPROC_PER_NODE`, `PET_NODE_RANK`, `PET_MASTER_ADDR` and `PET_MASTER_PORT`; `env` may set none of
them. The access key and the secret key are read from the secret by the kubelet and are in no manifest. `env` refuses
names that look like secrets.

"""
OPERATORS = """

Ports: the rendezvous (23456 in a PyTorchJob, 29500 in a TrainJob), `gang` next to it, and `metrics`. Labels of the job
and its pods: `radiffuse.org/run`, `radiffuse.org/plan` (the plan's digest) and `app.kubernetes.io/instance` (the job).
Restricted Pod Security is kept: a numeric user that is not root, no capabilities, seccomp, a read-only root file
system; only `/tmp` and `/dev/shm` can be written. Pods mount no service account token.

## The two kinds

| | `backend: pytorchjob` | `backend: trainjob` |
|---|---|---|
| needs | Training Operator 1.9 | Trainer 2.3 and JobSet 0.12 |
| objects | a PyTorchJob: one master, and workers | a TrainJob, and a TrainingRuntime of its own in its namespace |
| after a crash | the container restarts in place and the others follow | JobSet recreates all pods |
| exit codes 2 and 3 | the launcher ends the job; else the run's record ends each start | the JobSet fails at once |
| Kueue | switch `kubeflow.org/pytorchjob` on in its configuration | on by default |

## The Training Operator's init container

The operator puts a container before each worker's own that waits for the master's name. Its built-in one comes from
Docker Hub and is refused in a namespace with restricted Pod Security. Give it this file and the training image, whose
digest the nodes have anyway:

    kubectl -n kubeflow create configmap training-operator-init-container \\
        --from-file=initContainer.yaml=manifests/training-operator/init-container.yaml
    kubectl -n kubeflow patch deployment training-operator --type=strategic --patch '
    spec: {template: {spec: {
      volumes: [{name: init-container, configMap: {name: training-operator-init-container}}],
      containers: [{name: training-operator,
        args: [--pytorch-init-container-image=registry.example/radiffuse-train:1.0.0],
        volumeMounts: [{name: init-container, mountPath: /etc/config}]}]}}}'

```yaml
"""
END = """
```

Written by `make generate` from `radiffuse/cluster/job.py` and `pipelines/job_page.py`.
"""


def job_page(init_container: Path) -> str:
    """The page; `init_container` is the file that the Training Operator is to be given."""
    template = init_container.read_text(encoding="utf-8").rstrip()
    return "".join(
        (INTRODUCTION, _topologies(), FOLLOWS, _settings(), BACKENDS, _environment(), OPERATORS, template, END)
    )


def _settings() -> str:
    schema = TrainingJob.model_json_schema()
    sections = [name for name, field in schema["properties"].items() if "settings" in _type(field)]
    tables = [_table("The document", schema, skip=("run", *sections))]
    return "\n".join(tables + [_table(TITLES[name], schema["$defs"][name]) for name in SECTIONS]).rstrip()


def _table(title: str, record: dict[str, Any], skip: tuple[str, ...] = ()) -> str:
    rows = [
        f"| `{name}` | {_type(field)} | {_default(field)} | {field['description'].replace('None:', 'null:')} |"
        for name, field in record["properties"].items()
        if name not in skip
    ]
    lead = [] if skip else [record["description"], ""]
    head = ["| setting | takes | default | meaning |", "|---|---|---|---|"]
    return "\n".join([f"### {title}", "", *lead, *head, *rows, ""])


def _type(field: dict[str, Any]) -> str:
    """What a value looks like, in a few words."""
    if "$ref" in field:
        return "settings"
    if "anyOf" in field:
        return " or ".join(_type(option) for option in field["anyOf"] if option.get("type") != "null")
    if "enum" in field:
        return ", ".join(f"`{choice}`" for choice in field["enum"])
    if field["type"] == "array":
        return f"list of {_type(field['items'])}s"
    if field["type"] == "object":
        return f"{field['propertyNames']['format']}: {_type(field['additionalProperties'])}"
    if field["type"] == "integer":
        return f"{field.get('minimum', '')} to {field['maximum']}" if "maximum" in field else f"≥ {field['minimum']}"
    return str(field.get("format", {"string": "text", "boolean": "true, false"}.get(field["type"], field["type"])))


def _default(field: dict[str, Any]) -> str:
    if "default" not in field:
        return "required"
    value = field["default"]
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return f"`{value}`".replace(__version__, "VERSION") if value not in ({}, []) else "none"


def _topologies() -> str:
    lines = [
        "| preset | nodes x processes | images per process and step | CPU, memory, `/dev/shm` of a pod |",
        "|---|---|---|---|",
    ]
    for name in sorted(job_preset_names(), key=lambda name: load_job(name, run=RUN).world_size):
        job = load_job(name, run=RUN)
        batch = f"{job.batches.share}, in {job.batches.micro_steps} of {job.batches.micro_batch_size}"
        resources = f"{job.cpu}, {job.memory}, {job.shared_memory}"
        lines.append(f"| `{name}` | {job.nodes} x {job.processes} = {job.world_size} | {batch} | {resources} |")
    return "\n".join(lines)


def _environment() -> str:
    names = plain_environment(load_job("2x32", EVERY_VARIABLE, run=RUN))
    return "\n".join(["| variable | holds |", "|---|---|", *(f"| `{name}` | {VARIABLES[name]} |" for name in names)])
