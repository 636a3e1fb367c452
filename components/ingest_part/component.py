"""A part of ingest as a KFP component."""

from kfp import dsl

from components.command import radiffuse
from components.image import PIPELINE_IMAGE


@dsl.container_component
def ingest_part(layout: str, source: str, config: str, part: str, run: str, step: str) -> dsl.ContainerSpec:
    """Prepare a part of the images that `ingest` will write; without this step it prepares them itself.

    Args:
        layout: chexpert or mimic.
        source: The dataset's folder, as the step sees it.
        config: A preset's name, or a run's whole document as YAML or JSON.
        part: Which share of the work this is: K/N, such as 1/4.
        run: Identifier of the pipeline's run, under which the step notes how it went.
        step: The step's name in that note.
    """
    return radiffuse(
        PIPELINE_IMAGE,
        *("ingest", layout),
        *("--source", source),
        *("--config", config),
        *("--part", part),
    )
