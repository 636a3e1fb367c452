"""Ingest as a KFP component."""

from kfp import dsl

from components.command import radiffuse
from components.image import PIPELINE_IMAGE


@dsl.container_component
def ingest(
    layout: str,
    source: str,
    config: str,
    run: str,
    step: str,
    dataset: dsl.Output[dsl.Dataset],
) -> dsl.ContainerSpec:
    """Read a published layout and write image-prompt shards into the store.

    Args:
        layout: chexpert or mimic.
        source: The dataset's folder, as the step sees it.
        config: A preset's name, or a run's whole document as YAML or JSON.
        run: Identifier of the pipeline's run, under which the step notes how it went.
        step: The step's name in that note.
        dataset: Manifest of the dataset.
    """
    return radiffuse(
        PIPELINE_IMAGE,
        *("ingest", layout),
        *("--source", source),
        *("--config", config),
        *("--out", dataset.path),
    )
