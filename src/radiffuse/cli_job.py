"""`radiffuse job`: training jobs on Kubernetes. Each verb parses, calls one function and prints."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from radiffuse.errors import ConfigError

if TYPE_CHECKING:
    from radiffuse.cluster.client import ClusterClient
    from radiffuse.train_plan import TrainPlan

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"max_content_width": 120},
    help="Training jobs on Kubernetes: render, submit, watch, cancel.",
)


def _job_name(parameter: typer.CallbackParam, name: str | None) -> str | None:
    """Refuse before any request what no job can be named."""
    if name is not None:
        from radiffuse.cluster.names import check_name

        check_name(parameter.opts[0].upper(), name)
    return name


def _namespace(parameter: typer.CallbackParam, name: str | None) -> str | None:
    """Refuse before any request what no namespace can be named."""
    if name is not None:
        from radiffuse.cluster.names import check_name

        check_name(parameter.opts[0], name, of_namespace=True)
    return name


JobSource = Annotated[str, typer.Option("--job", "-j", help="Job preset, YAML file or JSON document.")]
JobSet = Annotated[list[str] | None, typer.Option("--set-job", help="field=value, over the job document.")]
Data = Annotated[Path, typer.Option(help="Manifest of latents, or of a dataset when the VAE is trained.")]
Model = Annotated[Path, typer.Option(help="Manifest of the model to start from.")]
Config = Annotated[str, typer.Option("--config", "-c", help="Preset name, YAML file or JSON document.")]
Set = Annotated[list[str] | None, typer.Option("--set", help="section.field=value, over the configuration.")]
Name = Annotated[str, typer.Argument(callback=_job_name, help="Name of the job in the cluster.")]
Namespace = Annotated[
    str | None,
    typer.Option("--namespace", "-n", callback=_namespace, help="Default: that of the credentials."),
]
Kubeconfig = Annotated[Path | None, typer.Option(help="Default: KUBECONFIG, the pod's own account, or ~/.kube/config.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
Watch = Annotated[bool, typer.Option("--watch", "-w", help="Follow it to its end; the exit code says how it ended.")]


def _overrides(given: list[str] | None) -> tuple[str, ...]:
    return () if given is None else tuple(given)


def _plan(data: Path, model: Path, config: str, set_: list[str] | None) -> "TrainPlan":
    from radiffuse.config import load_config
    from radiffuse.manifest import load_manifest
    from radiffuse.train_plan import plan_training

    run = load_config(config, _overrides(set_))
    return plan_training(run.name, load_manifest(data), load_manifest(model, "model"), run.train, processes=None)


def client_class() -> "type[ClusterClient]":
    """The client of the cluster; raises ConfigError where what it needs is not installed."""
    try:
        from radiffuse.cluster.client import ClusterClient
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"{error.name} is not installed here; pip install 'radiffuse[cluster]' brings the Kubernetes client"
        ) from error
    return ClusterClient


def _connect(kubeconfig: Path | None) -> "ClusterClient":
    return client_class()(kubeconfig)


@app.command(epilog="Example: radiffuse job render -j 2x32 --data latents.json --model model.json -c roentgen-1k")
def render(
    data: Data,
    model: Model,
    config: Config,
    job: JobSource = "2x32",
    set_: Set = None,
    set_job: JobSet = None,
    namespace: Namespace = None,
    as_json: Json = False,
) -> None:
    """Print the manifests of a run's job; asks no cluster."""
    from radiffuse.cluster.submit import job_for

    resolved = job_for(_plan(data, model, config, set_), job, namespace, _overrides(set_job))
    _print_manifests(resolved.to_manifests(), as_json)


@app.command(
    epilog="Example: radiffuse job submit -j 2x32 --data latents.json --model model.json -c roentgen-1k --watch"
)
def submit(
    data: Data,
    model: Model,
    config: Config,
    job: JobSource = "2x32",
    set_: Set = None,
    set_job: JobSet = None,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="The server checks it and keeps nothing.")] = False,
    watch: Watch = False,
    as_json: Json = False,
) -> None:
    """Send a run's job, or find it again. Interrupting --watch leaves the job alone; `train --job` would suspend it."""
    from radiffuse.cluster import submit as cluster
    from radiffuse.cluster.launcher import see_through
    from radiffuse.cluster.owner import Owner
    from radiffuse.cluster.timeline import Timeline
    from radiffuse.storage import open_store

    plan = _plan(data, model, config, set_)
    with _connect(kubeconfig) as client:
        resolved = cluster.job_for(plan, job, namespace or client.namespace, _overrides(set_job))
        if dry_run:
            _print_manifests(cluster.dry_run(client, resolved), as_json)
            return
        store = open_store()
        submitted = cluster.submit(client, store, plan, resolved, Owner(), lambda: None)
        if as_json:
            typer.echo(json.dumps({"name": submitted.name, "namespace": submitted.namespace, "how": submitted.how}))
        else:
            typer.echo(f"{submitted.namespace}/{submitted.name} {submitted.how}")
        if watch:
            state = see_through(client, store, plan, resolved, submitted, Timeline(resolved.name))
            typer.echo(f"{state.phase} {state.reason}".rstrip())
            raise typer.Exit(state.exit_code if state.exit_code is not None else 1)


@app.command(epilog="Example: radiffuse job status demo-1a2b3c4d --watch")
def status(
    name: Annotated[
        str | None, typer.Argument(callback=_job_name, help="Name of the job; without it: all jobs of ours.")
    ] = None,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    watch: Watch = False,
    as_json: Json = False,
) -> None:
    """Show how far a job is: pods, nodes, restarts, exit codes, progress, time left, and why it waits."""
    from radiffuse.cluster import status as cluster

    with _connect(kubeconfig) as client:
        where = namespace or client.namespace
        if name is None:
            typer.echo(cluster.listing(client, where, as_json))
            return
        if watch:
            raise typer.Exit(cluster.follow_status(client, where, name, typer.echo, as_json))
        state = cluster.look(client, where, name)
        typer.echo(cluster.as_json(name, state) if as_json else cluster.table(name, state))


@app.command(epilog="Example: radiffuse job logs demo-1a2b3c4d --follow --node 1")
def logs(
    name: Name,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    node: Annotated[int, typer.Option(min=0, help="Which pod; 0 is the one that reports.")] = 0,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the container ends.")] = False,
    previous: Annotated[bool, typer.Option(help="Of the start before this one.")] = False,
) -> None:
    """Print the log of one of a job's pods."""
    from radiffuse.cluster.status import log_lines

    with _connect(kubeconfig) as client:
        for line in log_lines(client, namespace or client.namespace, name, node, follow, previous):
            typer.echo(line)


@app.command(epilog="Example: radiffuse job cancel demo-1a2b3c4d")
def cancel(
    name: Name,
    namespace: Namespace = None,
    kubeconfig: Kubeconfig = None,
    delete: Annotated[
        bool, typer.Option("--delete", help="Remove the job; its checkpoints stay in the store.")
    ] = False,
) -> None:
    """Suspend a job: its pods checkpoint and end, and submitting it again goes on. In a queue it is deleted."""
    from radiffuse.cluster.status import cancel_job

    with _connect(kubeconfig) as client:
        where = namespace or client.namespace
        typer.echo(f"{where}/{name} {cancel_job(client, where, name, delete)}")


def _print_manifests(manifests: list[dict[str, object]], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(manifests, indent=2))
        return
    import yaml

    yaml.safe_dump_all(manifests, sys.stdout, sort_keys=False)
