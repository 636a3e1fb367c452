"""Sample as a KFP component."""

from kfp import dsl

from components.image import IMAGE


@dsl.container_component
def sample(model: dsl.Input[dsl.Model], role: str, config: str, samples: dsl.Output[dsl.Dataset]) -> dsl.ContainerSpec:
    """Draw images from the configured prompts.

    Args:
        model: Manifest of a model.
        role: before or after adaptation; each has its own number of samples.
        config: A preset's name, or a run's whole document as YAML or JSON.
        samples: Manifest of the samples.
    """
    return dsl.ContainerSpec(
        image=IMAGE,
        command=["radiffuse"],
        args=[
            "sample",
            *("--model", model.path),
            *("--role", role),
            *("--config", config),
            *("--out", samples.path),
            *("--executor-input", dsl.PIPELINE_TASK_EXECUTOR_INPUT_PLACEHOLDER),
        ],
    )
