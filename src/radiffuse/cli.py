"""The `radiffuse` command: each verb parses, calls one function and prints. Heavy imports happen inside the verbs."""

import json
import logging
import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from radiffuse import __version__
from radiffuse.errors import ConfigError, RadiffuseError

if TYPE_CHECKING:
    from radiffuse.manifest import Manifest

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help takes half the time
    context_settings={"max_content_width": 120},
    help="Adapt Stable Diffusion to chest X-rays: ingest, fine-tune, sample and judge.",
    epilog="Example: radiffuse ingest chexpert --source /data/chexpert --config demo --out dataset.json",
)
store_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="The S3 store.")
app.add_typer(store_app, name="store")


class Layout(StrEnum):
    """A published dataset layout."""

    chexpert = "chexpert"
    mimic = "mimic"


class Role(StrEnum):
    """What samples are drawn for: the baseline, or the adapted model."""

    before = "before"
    after = "after"


def _executor_input(text: str | None) -> str | None:
    """Refuse a malformed one before any work is done."""
    if text is not None:
        from radiffuse.executor import read_executor_input

        read_executor_input(text)
    return text


LayoutName = Annotated[Layout, typer.Argument(help="Published layout of the dataset.")]
Config = Annotated[str, typer.Option("--config", "-c", help="Preset name, YAML file or JSON document.")]
Set = Annotated[list[str] | None, typer.Option("--set", help="section.field=value, over the configuration.")]
Out = Annotated[Path, typer.Option("--out", help="Where to write the manifest of the result.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
ExecutorInput = Annotated[
    str | None,
    typer.Option(
        "--executor-input",
        callback=_executor_input,
        help="KFP's executor input; its output file is then written too.",
    ),
]


def _overrides(set_: list[str] | None) -> tuple[str, ...]:
    return () if set_ is None else tuple(set_)


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
    logging.basicConfig(level=log_level.upper(), stream=sys.stderr, format="%(levelname).1s %(name)s %(message)s")


def _finish(manifest: "Manifest", out: Path, executor_input: str | None, as_json: bool) -> None:
    """Write the manifest where it was asked for, tell KFP, print the result."""
    from radiffuse.executor import write_executor_output

    manifest.save(out)
    if executor_input is not None:
        write_executor_output(executor_input, manifest)
    if as_json:
        typer.echo(manifest.model_dump_json(indent=2))
    else:
        figures = (
            f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}"
            for name, value in manifest.counts.items()
            if isinstance(value, float) or value != 0
        )
        typer.echo(" ".join((manifest.kind, manifest.uri, *figures)))


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
    run = load_config(source, _overrides(set_))
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
    seed: Annotated[int, typer.Option(min=0, help="With a patient's number it alone decides that patient.")] = 0,
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
    out: Out,
    set_: Set = None,
    executor_input: ExecutorInput = None,
    as_json: Json = False,
) -> None:
    """Read a published layout and write image-prompt shards into the store."""
    from radiffuse.config import load_config
    from radiffuse.data.ingest import ingest_dataset
    from radiffuse.storage import open_store

    run = load_config(config, _overrides(set_))
    manifest = ingest_dataset(open_store(), layout.value, source, run.ingest, name=f"{run.name}-{layout.value}")
    _finish(manifest, out, executor_input, as_json)


@app.command(epilog="Example: radiffuse stage CompVis/stable-diffusion-v1-4 --revision 133a221 --out model.json")
def stage(
    source: Annotated[str, typer.Argument(help="'tiny', a diffusers folder, or a Hugging Face id, id@commit too.")],
    out: Out,
    revision: Annotated[str | None, typer.Option(help="Commit on the hub; required there.")] = None,
    executor_input: ExecutorInput = None,
    as_json: Json = False,
) -> None:
    """Put a diffusers pipeline into the store: safetensors only, digests recorded."""
    from radiffuse.staging import stage_model
    from radiffuse.storage import open_store

    if revision is None and not Path(source).is_dir():
        source, _, commit = source.partition("@")
        revision = commit if commit else None
    _finish(stage_model(open_store(), source, revision), out, executor_input, as_json)


@app.command(
    epilog="Example: radiffuse encode --dataset dataset.json --model model.json --config demo --out latents.json"
)
def encode(
    dataset: Annotated[Path, typer.Option(help="Manifest of a dataset.")],
    model: Annotated[Path, typer.Option(help="Manifest of a model; its VAE encodes.")],
    config: Config,
    out: Out,
    set_: Set = None,
    executor_input: ExecutorInput = None,
    as_json: Json = False,
) -> None:
    """Encode a dataset's images into the VAE's posterior means and standard deviations."""
    from radiffuse.config import load_config
    from radiffuse.data.latents import encode_dataset
    from radiffuse.manifest import load_manifest
    from radiffuse.storage import open_store

    run = load_config(config, _overrides(set_))
    manifest = encode_dataset(
        open_store(), load_manifest(dataset, "dataset"), load_manifest(model, "model"), run.encode
    )
    _finish(manifest, out, executor_input, as_json)


@app.command(epilog="Example: radiffuse train --data latents.json --model model.json --config demo --out adapted.json")
def train(
    data: Annotated[Path, typer.Option(help="Manifest of latents, or of a dataset when the VAE is trained.")],
    model: Annotated[Path, typer.Option(help="Manifest of the model to start from.")],
    config: Config,
    out: Out,
    set_: Set = None,
    executor_input: ExecutorInput = None,
    as_json: Json = False,
) -> None:
    """Fine-tune a model under torchrun, resuming from the newest complete checkpoint."""
    from radiffuse.config import load_config
    from radiffuse.launch import launch_training
    from radiffuse.manifest import load_manifest
    from radiffuse.storage import open_store

    run = load_config(config, _overrides(set_))
    manifest = launch_training(open_store(), run.name, load_manifest(data), load_manifest(model, "model"), run.train)
    _finish(manifest, out, executor_input, as_json)


@app.command(epilog="Example: radiffuse sample --model adapted.json --config demo --out samples.json")
def sample(
    model: Annotated[Path, typer.Option(help="Manifest of a model.")],
    config: Config,
    out: Out,
    role: Annotated[Role, typer.Option(help="Which of the two numbers of samples to draw.")] = Role.after,
    set_: Set = None,
    executor_input: ExecutorInput = None,
    as_json: Json = False,
) -> None:
    """Draw images from the configured prompts."""
    from radiffuse.config import load_config
    from radiffuse.launch import launch_sampling
    from radiffuse.manifest import load_manifest
    from radiffuse.storage import open_store

    run = load_config(config, _overrides(set_))
    manifest = launch_sampling(open_store(), run.name, load_manifest(model, "model"), run.sample, role is Role.before)
    _finish(manifest, out, executor_input, as_json)


@app.command(
    epilog="Example: radiffuse evaluate --dataset d.json --before b.json --after a.json -c demo --out report.json"
)
def evaluate(
    dataset: Annotated[Path, typer.Option(help="Manifest of the dataset the model was adapted to.")],
    before: Annotated[Path, typer.Option(help="Manifest of samples from the model before adaptation.")],
    after: Annotated[Path, typer.Option(help="Manifest of samples from the adapted model.")],
    config: Config,
    out: Out,
    external: Annotated[Path | None, typer.Option(help="Manifest of a second dataset, to judge the judge.")] = None,
    html: Annotated[Path | None, typer.Option(help="Also copy report.html here.")] = None,
    metrics: Annotated[Path | None, typer.Option(help="Also copy report.json here.")] = None,
    set_: Set = None,
    executor_input: ExecutorInput = None,
    as_json: Json = False,
) -> None:
    """Judge the samples and write report.html and report.json."""
    from radiffuse.config import load_config
    from radiffuse.evaluate.judge import evaluate_samples
    from radiffuse.manifest import load_manifest
    from radiffuse.storage import open_store

    run = load_config(config, _overrides(set_))
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
    _finish(manifest, out, executor_input, as_json)


@store_app.command("serve", epilog="Example: radiffuse store serve --dir store-data")
def store_serve(
    dir_: Annotated[Path, typer.Option("--dir", help="Where the server keeps its data and its credentials.")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free port.")] = 0,
) -> None:
    """Serve a real S3 store on 127.0.0.1 until interrupted; credentials go to a private file in --dir."""
    from radiffuse.embedded_store import serve_until_interrupted

    serve_until_interrupted(dir_, port)


@store_app.command("init", epilog="Example: radiffuse store init")
def store_init() -> None:
    """Create the buckets that radiffuse writes to, where they are missing."""
    from radiffuse.storage import open_store

    for bucket in open_store().create_buckets():
        typer.echo(f"created s3://{bucket}")


def main() -> None:
    """Entry point: exit 0 done, 1 failed, 2 misused; one line per known error, a traceback only for our own faults."""
    try:
        app()
    except ConfigError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(2)
    except RadiffuseError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(1)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


if __name__ == "__main__":
    main()
