"""A part of sample as a KFP component."""

from kfp import dsl

from components.command import radiffuse
from components.image import TRAIN_IMAGE


@dsl.container_component
def sample_part(
    model: dsl.Input[dsl.Model],
    role: str,
    config: str,
    part: str,
    run: str,
    step: str,
) -> dsl.ContainerSpec:
    """Draw a part of the images; `sample` finds them and draws what is missing.

    Args:
        model: Manifest of a model.
        role: before or after adaptation; each has its own number of samples.
        config: A preset's name, or a run's whole document as YAML or JSON.
        part: Which share of the work this is: K/N, such as 1/4.
        run: Identifier of the pipeline's run, under which the step notes how it went.
        step: The step's name in that note.
    """
    return radiffuse(
        TRAIN_IMAGE,
        "sample",
        *("--model", model.path),
        *("--role", role),
        *("--config", config),
        *("--part", part),
    )
