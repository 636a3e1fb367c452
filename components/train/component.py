"""Train as a KFP component."""

from kfp import dsl

from components.command import radiffuse
from components.image import PIPELINE_IMAGE


@dsl.container_component
def train(
    data: dsl.Input[dsl.Dataset],
    model: dsl.Input[dsl.Model],
    config: str,
    job: str,
    run: str,
    step: str,
    adapted: dsl.Output[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
    summary: dsl.Output[dsl.Markdown],
) -> dsl.ContainerSpec:
    """Fine-tune a model, resuming from the newest complete checkpoint: here, or as a training job on the cluster.

    Args:
        data: Manifest of latents, or of a dataset when the VAE is trained.
        model: Manifest of the model to start from.
        config: A preset's name, or a run's whole document as YAML or JSON.
        job: 'local' trains in this step; else a training job's preset, or its document as YAML or JSON.
        run: Identifier of the pipeline's run, under which the step notes how it went.
        step: The step's name in that note.
        adapted: Manifest of the fine-tuned model.
        metrics: Its figures.
        summary: What the job went through, for the dashboard.
    """
    return radiffuse(
        PIPELINE_IMAGE,
        "train",
        *("--data", data.path),
        *("--model", model.path),
        *("--config", config),
        *("--job", job),
        *("--summary", summary.path),
        *("--out", adapted.path),
    )
