"""Train as a KFP component."""

from kfp import dsl

from components.image import IMAGE


@dsl.container_component
def train(
    data: dsl.Input[dsl.Dataset],
    model: dsl.Input[dsl.Model],
    config: str,
    adapted: dsl.Output[dsl.Model],
    metrics: dsl.Output[dsl.Metrics],
) -> dsl.ContainerSpec:
    """Fine-tune a model under torchrun, resuming from the newest complete checkpoint.

    Args:
        data: Manifest of latents, or of a dataset when the VAE is trained.
        model: Manifest of the model to start from.
        config: A preset's name, or a run's whole document as YAML or JSON.
        adapted: Manifest of the fine-tuned model.
        metrics: Its figures.
    """
    return dsl.ContainerSpec(
        image=IMAGE,
        command=["radiffuse"],
        args=[
            "train",
            *("--data", data.path),
            *("--model", model.path),
            *("--config", config),
            *("--out", adapted.path),
            *("--executor-input", dsl.PIPELINE_TASK_EXECUTOR_INPUT_PLACEHOLDER),
        ],
    )
