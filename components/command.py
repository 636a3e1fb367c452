"""What all steps have in common: one `radiffuse` command, which is told what its step is to leave behind."""

from typing import Any

from kfp import dsl


def radiffuse(image: str, *arguments: Any) -> dsl.ContainerSpec:
    """A container that runs that command; arguments are text or the component's own placeholders."""
    told = ("--executor-input", dsl.PIPELINE_TASK_EXECUTOR_INPUT_PLACEHOLDER)
    # With a command, since KFP ignores an image's entry point.
    return dsl.ContainerSpec(image=image, command=["radiffuse"], args=[*arguments, *told])
