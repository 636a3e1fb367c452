"""Stage as a KFP component."""

from kfp import dsl

from components.image import IMAGE


@dsl.container_component
def stage(source: str, model: dsl.Output[dsl.Model]) -> dsl.ContainerSpec:
    """Put a diffusers pipeline into the store: safetensors only, digests recorded.

    Args:
        source: 'tiny', a diffusers folder, or a Hugging Face id with its commit, such as org/name@commit.
        model: Manifest of the model.
    """
    return dsl.ContainerSpec(
        image=IMAGE,
        command=["radiffuse"],
        args=[
            *("stage", source),
            *("--out", model.path),
            *("--executor-input", dsl.PIPELINE_TASK_EXECUTOR_INPUT_PLACEHOLDER),
        ],
    )
