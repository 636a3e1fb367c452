"""Fine-tune a base model on a cohort of radiographs, and judge what it draws before and after."""

from typing import Any

from kfp import dsl

from components.encode.component import encode
from components.encode_part.component import encode_part
from components.evaluate.component import evaluate
from components.evaluate_external.component import evaluate_external
from components.ingest.component import ingest
from components.ingest_part.component import ingest_part
from components.sample.component import sample
from components.sample_part.component import sample_part
from components.stage.component import stage
from components.train.component import train
from pipelines.placement import Cluster, on_cluster
from pipelines.steps import Steps

NAMES = ("ingest", "stage", "encode", "sample before", "train", "sample after", "evaluate")


def _adapt(
    steps: Steps, dataset: dsl.PipelineTask, config: str, base_model: str, job: str
) -> tuple[dsl.PipelineTask, dsl.PipelineTask]:
    """The steps that draw samples before and after."""
    base = steps("stage", stage, source=base_model).outputs["model"]
    images = dataset.outputs["dataset"]
    latents = steps("encode", encode, dataset=images, model=base, config=config).outputs["latents"]
    before = steps("sample before", sample, model=base, role="before", config=config)
    adapted = steps("train", train, data=latents, model=base, config=config, job=job).outputs["adapted"]
    after = steps("sample after", sample, model=adapted, role="after", config=config)
    return before, after


def _samples(before: dsl.PipelineTask, after: dsl.PipelineTask) -> dict[str, Any]:
    return {"before": before.outputs["samples"], "after": after.outputs["samples"]}


def _sample_in_parts(steps: Steps, role: str, model: Any, config: str, parts: list[str]) -> dsl.PipelineTask:
    name, given = f"sample {role}", {"model": model, "role": role, "config": config}
    return steps(name, sample, **given).after(steps.parts(name, parts, sample_part, **given))


@dsl.pipeline(name="finetune")
@on_cluster
def finetune(
    source: str, config: str, base_model: str, layout: str = "chexpert", job: str = "local", *, cluster: Cluster
) -> None:
    """Fine-tune a base model on a cohort of radiographs, and judge what it draws before and after.

    Args:
        source: The cohort's folder, as the steps see it.
        config: A preset's name, or a run's whole document as YAML or JSON.
        base_model: 'tiny', a diffusers folder, a Hugging Face id with its commit (org/name@commit), or s3://models/...
        layout: chexpert or mimic.
        job: 'local' trains in the step itself; else a training job's preset, or its document as YAML or JSON.
        cluster: Where its steps run; each field becomes a parameter.
    """
    steps = Steps(cluster, *NAMES)
    with steps.ending():
        dataset = steps("ingest", ingest, layout=layout, source=source, config=config)
        before, after = _adapt(steps, dataset, config, base_model, job)
        images = dataset.outputs["dataset"]
        steps("evaluate", evaluate, dataset=images, config=config, **_samples(before, after))


@dsl.pipeline(name="finetune-external")
@on_cluster
def finetune_external(
    source: str,
    external_source: str,
    config: str,
    base_model: str,
    layout: str = "chexpert",
    external_layout: str = "mimic",
    job: str = "local",
    *,
    cluster: Cluster,
) -> None:
    """Fine-tune and judge likewise; the judge is itself judged on a second cohort, which nothing learns from.

    Args:
        source: The cohort's folder, as the steps see it.
        external_source: The second cohort's folder.
        config: A preset's name, or a run's whole document as YAML or JSON.
        base_model: 'tiny', a diffusers folder, a Hugging Face id with its commit (org/name@commit), or s3://models/...
        layout: chexpert or mimic.
        external_layout: The second cohort's: chexpert or mimic.
        job: 'local' trains in the step itself; else a training job's preset, or its document as YAML or JSON.
        cluster: Where its steps run; each field becomes a parameter.
    """
    steps = Steps(cluster, "ingest", "ingest external", *NAMES[1:])
    with steps.ending():
        dataset = steps("ingest", ingest, layout=layout, source=source, config=config)
        second = steps("ingest external", ingest, layout=external_layout, source=external_source, config=config)
        before, after = _adapt(steps, dataset, config, base_model, job)
        data = {"dataset": dataset.outputs["dataset"], "external": second.outputs["dataset"]}
        steps("evaluate", evaluate_external, config=config, **data, **_samples(before, after))


@dsl.pipeline(name="finetune-parts")
@on_cluster
def finetune_parts(
    source: str,
    config: str,
    base_model: str,
    layout: str = "chexpert",
    job: str = "local",
    ingest_parts: list[str] = ["1/2", "2/2"],  # noqa: B006 - KFP wants a literal default, and nothing changes it
    encode_parts: list[str] = ["1/2", "2/2"],  # noqa: B006
    sample_parts: list[str] = ["1/2", "2/2"],  # noqa: B006
    *,
    cluster: Cluster,
) -> None:
    """Fine-tune and judge likewise; ingest, encode and sample are each shared by several pods.

    The step of the same name comes after its parts, does what is missing and completes the result; so it makes no
    difference to the result which parts there are.

    Args:
        source: The cohort's folder, as the steps see it.
        config: A preset's name, or a run's whole document as YAML or JSON.
        base_model: 'tiny', a diffusers folder, a Hugging Face id with its commit (org/name@commit), or s3://models/...
        layout: chexpert or mimic.
        job: 'local' trains in the step itself; else a training job's preset, or its document as YAML or JSON.
        ingest_parts: A pod for each, such as ["1/3", "2/3", "3/3"]; at least one.
        encode_parts: Likewise.
        sample_parts: Likewise, before and after.
        cluster: Where its steps run; each field becomes a parameter.
    """
    steps = Steps(cluster, *NAMES)
    with steps.ending():
        given = {"layout": layout, "source": source, "config": config}
        dataset = steps("ingest", ingest, **given).after(steps.parts("ingest", ingest_parts, ingest_part, **given))
        base = steps("stage", stage, source=base_model).outputs["model"]
        given = {"dataset": dataset.outputs["dataset"], "model": base, "config": config}
        latents = steps("encode", encode, **given).after(steps.parts("encode", encode_parts, encode_part, **given))
        before = _sample_in_parts(steps, "before", base, config, sample_parts)
        data = latents.outputs["latents"]
        adapted = steps("train", train, data=data, model=base, config=config, job=job).outputs["adapted"]
        after = _sample_in_parts(steps, "after", adapted, config, sample_parts)
        images = dataset.outputs["dataset"]
        steps("evaluate", evaluate, dataset=images, config=config, **_samples(before, after))
