"""A part of encode as a KFP component."""

from kfp import dsl

from components.command import radiffuse
from components.image import TRAIN_IMAGE


@dsl.container_component
def encode_part(
    dataset: dsl.Input[dsl.Dataset],
    model: dsl.Input[dsl.Model],
    config: str,
    part: str,
    run: str,
    step: str,
) -> dsl.ContainerSpec:
    """Encode a part of a dataset's shards; `encode` finds them and encodes what is missing.

    Args:
        dataset: Manifest of a dataset.
        model: Manifest of a model; its VAE encodes.
        config: A preset's name, or a run's whole document as YAML or JSON.
        part: Which share of the work this is: K/N, such as 1/4.
        run: Identifier of the pipeline's run, under which the step notes how it went.
        step: The step's name in that note.
    """
    return radiffuse(
        TRAIN_IMAGE,
        "encode",
        *("--dataset", dataset.path),
        *("--model", model.path),
        *("--config", config),
        *("--part", part),
    )
