"""Stage as a KFP component."""

from kfp import dsl

from components.command import radiffuse
from components.image import PIPELINE_IMAGE


@dsl.container_component
def stage(source: str, run: str, step: str, model: dsl.Output[dsl.Model]) -> dsl.ContainerSpec:
    """Put a diffusers pipeline into the store: safetensors only, digests recorded.

    Args:
        source: 'tiny', a diffusers folder, a Hugging Face id with its commit, such as org/name@commit, or the
            s3:// address of a model in the store.
        run: Identifier of the pipeline's run, under which the step notes how it went.
        step: The step's name in that note.
        model: Manifest of the model.
    """
    return radiffuse(
        PIPELINE_IMAGE,
        *("stage", source),
        *("--out", model.path),
    )
