"""Finish as a KFP component."""

from kfp import dsl

from components.command import radiffuse
from components.image import PIPELINE_IMAGE


@dsl.container_component
def finish(
    status: dsl.PipelineTaskFinalStatus,
    run: str,
    steps: list[str],
    summary: dsl.Output[dsl.Markdown],
) -> dsl.ContainerSpec:
    """Say how a run ended: what ran, what failed, what to do. It runs last, whatever the other steps did.

    Args:
        status: What KFP says of the other steps together.
        run: Identifier of the pipeline's run, under which the steps noted how they went.
        steps: Their names, in order.
        summary: The end, for the dashboard.
    """
    return radiffuse(
        PIPELINE_IMAGE,
        *("finish", run),
        *("--status", status),
        *("--steps", steps),
        *("--out", summary.path),
    )
