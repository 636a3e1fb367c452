"""Encode as a KFP component."""

from kfp import dsl

from components.command import radiffuse
from components.image import TRAIN_IMAGE


@dsl.container_component
def encode(
    dataset: dsl.Input[dsl.Dataset],
    model: dsl.Input[dsl.Model],
    config: str,
    run: str,
    step: str,
    latents: dsl.Output[dsl.Dataset],
) -> dsl.ContainerSpec:
    """Encode a dataset's images into the VAE's posterior means and standard deviations.

    Args:
        dataset: Manifest of a dataset.
        model: Manifest of a model; its VAE encodes.
        config: A preset's name, or a run's whole document as YAML or JSON.
        run: Identifier of the pipeline's run, under which the step notes how it went.
        step: The step's name in that note.
        latents: Manifest of the latents.
    """
    return radiffuse(
        TRAIN_IMAGE,
        "encode",
        *("--dataset", dataset.path),
        *("--model", model.path),
        *("--config", config),
        *("--out", latents.path),
    )
