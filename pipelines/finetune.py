"""Fine-tune a base model on a cohort of radiographs, and judge what it draws before and after."""

from kfp import dsl

from components.encode.component import encode
from components.evaluate.component import evaluate
from components.ingest.component import ingest
from components.sample.component import sample
from components.stage.component import stage
from components.train.component import train


def _step(task: dsl.PipelineTask, name: str) -> dsl.PipelineTask:
    """The store itself knows what is complete, also after it was emptied; KFP's cache would not."""
    return task.set_display_name(name).set_caching_options(False)


def _adapt_and_judge(
    source: str, layout: str, config: str, base_model: str, external: tuple[str, str] | None = None
) -> None:
    dataset = _step(ingest(layout=layout, source=source, config=config), "ingest").outputs["dataset"]
    base = _step(stage(source=base_model), "stage").outputs["model"]
    latents = _step(encode(dataset=dataset, model=base, config=config), "encode").outputs["latents"]
    before = _step(sample(model=base, role="before", config=config), "sample before").outputs["samples"]
    adapted = _step(train(data=latents, model=base, config=config), "train").outputs["adapted"]
    after = _step(sample(model=adapted, role="after", config=config), "sample after").outputs["samples"]
    second = {}
    if external is not None:
        task = _step(ingest(source=external[0], layout=external[1], config=config), "ingest external")
        second["external"] = task.outputs["dataset"]
    _step(evaluate(dataset=dataset, before=before, after=after, config=config, **second), "evaluate")


@dsl.pipeline(name="finetune")
def finetune(source: str, config: str, base_model: str, layout: str = "chexpert") -> None:
    """Fine-tune a base model on a cohort of radiographs, and judge what it draws before and after.

    Args:
        source: The cohort's folder, as the steps see it.
        config: A preset's name, or a run's whole document as YAML or JSON.
        base_model: 'tiny', a diffusers folder, or a Hugging Face id with its commit, such as org/name@commit.
        layout: chexpert or mimic.
    """
    _adapt_and_judge(source, layout, config, base_model)


@dsl.pipeline(name="finetune-external")
def finetune_external(
    source: str,
    external_source: str,
    config: str,
    base_model: str,
    layout: str = "chexpert",
    external_layout: str = "mimic",
) -> None:
    """Fine-tune and judge likewise; the judge is itself judged on a second cohort, which nothing learns from.

    Args:
        source: The cohort's folder, as the steps see it.
        external_source: The second cohort's folder.
        config: A preset's name, or a run's whole document as YAML or JSON.
        base_model: 'tiny', a diffusers folder, or a Hugging Face id with its commit, such as org/name@commit.
        layout: chexpert or mimic.
        external_layout: The second cohort's: chexpert or mimic.
    """
    _adapt_and_judge(source, layout, config, base_model, (external_source, external_layout))
