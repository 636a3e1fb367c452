"""The `radiffuse` command: each verb parses, calls one function and prints. Heavy imports happen inside the verbs."""

import json
import logging
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from radiffuse import __version__
from radiffuse.cli_doctor import doctor
from radiffuse.cli_job import app as job_app
from radiffuse.cli_options import (
    Config,
    ExecutorInput,
    Json,
    Layout,
    LayoutName,
    OptionalOut,
    Out,
    PartOfWork,
    Role,
    Set,
    overrides,
    writable,
)
from radiffuse.cli_results import exit_code, finish_part, finish_step, require_output, required_out, stored_output
from radiffuse.cli_store import app as store_app
from radiffuse.errors import ConfigError, RadiffuseError, StorageError
from radiffuse.local_files import is_disk_full
from radiffuse.rank import LOG_LEVEL_VARIABLE
from radiffuse.sigterm import exit_on_sigterm

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help takes half the time
    context_settings={"max_content_width": 120},
    help="Adapt Stable Diffusion to chest X-rays: ingest, fine-tune, sample and judge.",
    epilog="Example: radiffuse ingest chexpert --source /data/chexpert --config demo --out dataset.json",
)
app.add_typer(store_app, name="store")
app.add_typer(job_app, name="job")
app.command(epilog="Example: radiffuse doctor --namespace radiffuse --job 2x32")(doctor)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"radiffuse {__version__}")
        raise typer.Exit


@app.callback()
def _global_options(
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "info",
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    if log_level.upper() not in ("DEBUG", "INFO", "WARNING", "ERROR"):
        raise ConfigError(f"--log-level {log_level!r} is not one of debug, info, warning, error")
    os.environ[LOG_LEVEL_VARIABLE] = log_level.upper()  # for the processes of training and sampling
    logging.basicConfig(level=log_level.upper(), stream=sys.stderr, format="%(levelname).1s %(name)s %(message)s")


@app.command(epilog="Example: radiffuse config demo --set train.max_train_steps=100 --json")
def config(
    source: Annotated[
        str | None, typer.Argument(help="Preset name, YAML file or document; without it: presets.")
    ] = None,
    set_: Set = None,
    as_json: Json = False,
) -> None:
    """Print a run's every setting as resolved, or list the presets."""
    from radiffuse.config import load_config, preset_names

    if source is None:
        typer.echo("\n".join(preset_names()))
        return
    run = load_config(source, overrides(set_))
    if as_json:
        typer.echo(run.model_dump_json(indent=2))
    else:
        import yaml

        typer.echo(yaml.safe_dump(run.model_dump(mode="json"), sort_keys=False), nl=False)


@app.command(epilog="Example: radiffuse simulate --out cohort --layout chexpert --patients 100 --size-px 96")
def simulate(
    out: Annotated[Path, typer.Option(help="Folder for the dataset; truth goes to <out>-truth.json beside it.")],
    layout: Annotated[Layout, typer.Option(help="Published layout to write.")] = Layout.chexpert,
    patients: Annotated[int, typer.Option(min=1, help="How many; each has one to several images.")] = 100,
    size_px: Annotated[int, typer.Option(min=32, max=2048, help="Side of the images, pixels.")] = 96,
    seed: Annotated[
        int, typer.Option(min=0, max=2**63 - 1, help="With a patient's number it alone decides that patient.")
    ] = 0,
    processes: Annotated[int, typer.Option(min=0, help="0: one per core.")] = 0,
    as_json: Json = False,
) -> None:
    """Render a cohort of simulated patients from a real chest CT, in a published layout."""
    from radiffuse.data.simulate import simulate_cohort

    summary = simulate_cohort(out, layout.value, patients, size_px, seed, processes)
    _print_counts(summary, as_json)


@app.command(epilog="Example: radiffuse inspect chexpert --source /data/chexpert --json")
def inspect(
    layout: LayoutName,
    source: Annotated[Path, typer.Option(help="The dataset's folder, or its table.")],
    as_json: Json = False,
) -> None:
    """Say what a dataset holds before anything is copied."""
    from radiffuse.data.inspect import inspect_source

    _print_counts(inspect_source(layout.value, source), as_json)


def _print_counts(counts: dict[str, Any], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(counts, indent=2))
        return
    width = max(len(name) for name in counts)
    for name, value in counts.items():
        typer.echo(f"{name:<{width}}  {value}")


@app.command(epilog="Example: radiffuse ingest chexpert --source cohort --config demo --out dataset.json")
def ingest(
    layout: LayoutName,
    source: Annotated[Path, typer.Option(help="The dataset's folder, in its published layout.")],
    config: Config,
    out: OptionalOut = None,
    part: PartOfWork = None,
    set_: Set = None,
    executor_input: ExecutorInput = None,
    as_json: Json = False,
) -> None:
    """Read a published layout and write image-prompt shards into the store."""
    from radiffuse.config import load_config
    from radiffuse.data.ingest import ingest_dataset, ingest_part
    from radiffuse.parts import Part
    from radiffuse.storage import open_store

    run = load_config(config, overrides(set_))
    name = f"{run.name}-{layout.value}"
    if part is not None:
        share = Part.parse(part)
        done = ingest_part(open_store(), layout.value, source, run.ingest, name, share)
        finish_part(share, done, "images", executor_input)
        return
    path = required_out(out)
    finish_step(ingest_dataset(open_store(), layout.value, source, run.ingest, name), path, executor_input, as_json)


@app.command(epilog="Example: radiffuse stage CompVis/stable-diffusion-v1-4 --revision 133a221 --out model.json")
def stage(
    source: Annotated[
        str, typer.Argument(help="'tiny', a diffusers folder, a Hugging Face id (id@commit too), or s3://models/...")
    ],
    out: Out,
    revision: Annotated[str | None, typer.Option(help="Commit on the hub; required there.")] = None,
    executor_input: ExecutorInput = None,
    as_json: Json = False,
) -> None:
    """Put a diffusers pipeline into the store: safetensors only, digests recorded."""
    from radiffuse.staging import stage_model
    from radiffuse.storage import open_store

    if source.startswith("s3://"):
        finish_step(stored_output(source, "model"), out, executor_input, as_json)
        return
    if revision is None and not os.path.isdir(source):  # pathlib's raises for what this user may not look at
        source, _, commit = source.partition("@")
        revision = commit if commit else None
    finish_step(stage_model(open_store(), source, revision), out, executor_input, as_json)


@app.command(epilog="Example: radiffuse find s3://datasets/demo-chexpert/0123456789abcdef --out dataset.json")
def find(
    uri: Annotated[str, typer.Argument(help="Address of an output, s3://bucket/name/digest.")],
    out: Out,
    kind: Annotated[str | None, typer.Option(help="What it must be, such as dataset or model.")] = None,
    executor_input: ExecutorInput = None,
    as_json: Json = False,
) -> None:
    """Write the manifest of what is in the store already."""
    finish_step(stored_output(uri, kind), out, executor_input, as_json)


@app.command(
    epilog="Example: radiffuse encode --dataset dataset.json --model model.json --config demo --out latents.json"
)
def encode(
    dataset: Annotated[Path, typer.Option(help="Manifest of a dataset.")],
    model: Annotated[Path, typer.Option(help="Manifest of a model; its VAE encodes.")],
    config: Config,
    out: OptionalOut = None,
    part: PartOfWork = None,
    set_: Set = None,
    executor_input: ExecutorInput = None,
    as_json: Json = False,
) -> None:
    """Encode a dataset's images into the VAE's posterior means and standard deviations."""
    from radiffuse.config import load_config
    from radiffuse.data.latents import encode_dataset, encode_part
    from radiffuse.manifest import load_manifest
    from radiffuse.parts import Part
    from radiffuse.storage import open_store

    run = load_config(config, overrides(set_))
    images, vae = load_manifest(dataset, "dataset"), load_manifest(model, "model")
    if part is not None:
        share = Part.parse(part)
        finish_part(share, encode_part(open_store(), images, vae, run.encode, share), "shards", executor_input)
        return
    path = required_out(out)
    finish_step(encode_dataset(open_store(), images, vae, run.encode), path, executor_input, as_json)


@app.command(epilog="Example: radiffuse train --data latents.json --model model.json --config demo --out adapted.json")
def train(
    data: Annotated[Path, typer.Option(help="Manifest of latents, or of a dataset when the VAE is trained.")],
    model: Annotated[Path, typer.Option(help="Manifest of the model to start from.")],
    config: Config,
    out: Out,
    job: Annotated[
        str, typer.Option(help="'local' trains here; a job preset, YAML file or document trains on Kubernetes.")
    ] = "local",
    summary: Annotated[
        Path | None, typer.Option(callback=writable, help="Also write what became of it here, as Markdown.")
    ] = None,
    set_: Set = None,
    executor_input: ExecutorInput = None,
    as_json: Json = False,
) -> None:
    """Fine-tune a model under torchrun, resuming from the newest complete checkpoint."""
    from radiffuse.config import load_config
    from radiffuse.manifest import load_manifest
    from radiffuse.storage import open_store
    from radiffuse.training_place import train_at

    run = load_config(config, overrides(set_))
    inputs = load_manifest(data), load_manifest(model, "model")
    manifest = train_at(job, open_store(), run.name, *inputs, run.train, summary)
    finish_step(manifest, out, executor_input, as_json)


@app.command(epilog="Example: radiffuse sample --model adapted.json --config demo --out samples.json")
def sample(
    model: Annotated[Path, typer.Option(help="Manifest of a model.")],
    config: Config,
    out: OptionalOut = None,
    role: Annotated[Role, typer.Option(help="Which of the two numbers of samples to draw.")] = Role.after,
    part: PartOfWork = None,
    set_: Set = None,
    executor_input: ExecutorInput = None,
    as_json: Json = False,
) -> None:
    """Draw images from the configured prompts."""
    from radiffuse.config import load_config
    from radiffuse.launch import launch_sampling
    from radiffuse.launch_part import launch_sample_part
    from radiffuse.manifest import load_manifest
    from radiffuse.parts import Part
    from radiffuse.storage import open_store

    run = load_config(config, overrides(set_))
    weights, is_baseline = load_manifest(model, "model"), role is Role.before
    if part is not None:
        share = Part.parse(part)
        done = launch_sample_part(open_store(), run.name, weights, run.sample, is_baseline, share)
        finish_part(share, done, "shards", executor_input)
        return
    path = required_out(out)
    finish_step(
        launch_sampling(open_store(), run.name, weights, run.sample, is_baseline), path, executor_input, as_json
    )


@app.command(
    epilog="Example: radiffuse evaluate --dataset d.json --before b.json --after a.json -c demo --out judged.json"
)
def evaluate(
    dataset: Annotated[Path, typer.Option(help="Manifest of the dataset the model was adapted to.")],
    before: Annotated[Path, typer.Option(help="Manifest of samples from the model before adaptation.")],
    after: Annotated[Path, typer.Option(help="Manifest of samples from the adapted model.")],
    config: Config,
    out: Out,
    external: Annotated[Path | None, typer.Option(help="Manifest of a second dataset, to judge the judge.")] = None,
    html: Annotated[Path | None, typer.Option(callback=writable, help="Also copy report.html here.")] = None,
    metrics: Annotated[Path | None, typer.Option(callback=writable, help="Also copy report.json here.")] = None,
    set_: Set = None,
    executor_input: ExecutorInput = None,
    as_json: Json = False,
) -> None:
    """Judge the samples and write report.html and report.json."""
    from radiffuse.config import load_config
    from radiffuse.evaluate.judge import evaluate_samples
    from radiffuse.manifest import load_manifest
    from radiffuse.storage import open_store

    run = load_config(config, overrides(set_))
    store = open_store()
    manifest = evaluate_samples(
        store,
        run.name,
        load_manifest(dataset, "dataset"),
        load_manifest(before, "samples"),
        load_manifest(after, "samples"),
        run.evaluate,
        external=load_manifest(external, "dataset") if external else None,
    )
    for name, path in (("report.html", html), ("report.json", metrics)):
        if path is not None:
            store.fetch(manifest, path.parent, {name: path.name})
    finish_step(manifest, out, executor_input, as_json)


@app.command(epilog="Example: radiffuse finish 5b3c7d10-run --out summary.md")
def finish(
    run: Annotated[str, typer.Argument(help="Identifier of the pipeline's run.")],
    status: Annotated[str | None, typer.Option(help="KFP's final status of the other steps, as JSON.")] = None,
    steps: Annotated[str | None, typer.Option(help="The steps' names in order, as a JSON list.")] = None,
    out: Annotated[Path | None, typer.Option(callback=writable, help="Also write the page here.")] = None,
    executor_input: ExecutorInput = None,
) -> None:
    """Say how a pipeline's run ended: what ran, what failed, what to do."""
    from radiffuse.executor import write_executor_output
    from radiffuse.finish import describe_end, read_steps
    from radiffuse.local_files import write_text

    page = describe_end(run, status, read_steps(steps))
    if out is not None:
        write_text(out, page)
    if executor_input is not None:
        write_executor_output(executor_input, None)
    typer.echo(page, nl=False)


@app.command(epilog="Example: radiffuse worker --plan s3://checkpoints/run-0123456789abcdef/plan.json")
def worker(
    plan: Annotated[str, typer.Option(help="Address of the plan in the store.")],
    max_starts: Annotated[int, typer.Option(min=1, help="Give up after so many without a newer checkpoint.")] = 5,
    rendezvous_timeout_seconds: Annotated[float, typer.Option(min=1, help="Wait so long for other nodes.")] = 600,
    grace_seconds: Annotated[float, typer.Option(min=1, help="From SIGTERM to the end: a checkpoint must fit.")] = 300,
    linger_seconds: Annotated[float, typer.Option(min=0, help="Serve metrics so long after a telling end.")] = 20,
    termination_log: Annotated[Path, typer.Option(help="Where the kubelet reads why.")] = Path("/dev/termination-log"),
    metrics_port: Annotated[int, typer.Option(min=1, max=65535, help="Of GET /metrics.")] = 9090,
) -> None:
    """Run one pod's part of a training job; PET_* say where it stands among the others.

    Exit code 0: the result is in the store; 2: wrong input; 3: given up; 134 and 143: worth another start.
    """
    from radiffuse.worker import WorkerSettings, run_worker

    settings = WorkerSettings(
        plan, max_starts, rendezvous_timeout_seconds, grace_seconds, linger_seconds, termination_log, metrics_port
    )
    raise typer.Exit(run_worker(settings))


def main() -> None:
    """Entry point: exit 0 done, 1 failed, 2 misused, 128 and a signal's number when it stopped us.

    One line per known error, a traceback only for our own faults.
    """
    try:
        with exit_on_sigterm():
            require_output()
            app()
    except BrokenPipeError:
        _discard_output()
        sys.exit(1)
    except Exception as error:
        _note_failure(error)
        if is_disk_full(error):
            _discard_output()  # it may be what is full, and Python would try once more
            error = StorageError("cannot write: no space is left; free some, or write elsewhere")
        elif not isinstance(error, RadiffuseError):
            raise
        typer.echo(f"error: {error}", err=True)
        sys.exit(exit_code(error))


def _discard_output() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _note_failure(error: Exception) -> None:
    if "radiffuse.step_notes" in sys.modules:  # else no step is under way, and nothing heavy is loaded for an error
        from radiffuse.step_notes import fail_note

        fail_note(error)


if __name__ == "__main__":
    main()
