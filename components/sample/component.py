"""Sample as a KFP component."""

from kfp import dsl

from components.command import radiffuse
from components.image import TRAIN_IMAGE


@dsl.container_component
def sample(
    model: dsl.Input[dsl.Model],
    role: str,
    config: str,
    run: str,
    step: str,
    samples: dsl.Output[dsl.Dataset],
) -> dsl.ContainerSpec:
    """Draw images from the configured prompts.

    Args:
        model: Manifest of a model.
        role: before or after adaptation; each has its own number of samples.
        config: A preset's name, or a run's whole document as YAML or JSON.
        run: Identifier of the pipeline's run, under which the step notes how it went.
        step: The step's name in that note.
        samples: Manifest of the samples.
    """
    return radiffuse(
        TRAIN_IMAGE,
        "sample",
        *("--model", model.path),
        *("--role", role),
        *("--config", config),
        *("--out", samples.path),
    )
