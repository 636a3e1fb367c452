"""Find as a KFP component."""

from kfp import dsl

from components.command import radiffuse
from components.image import PIPELINE_IMAGE


@dsl.container_component
def find_dataset(uri: str, run: str, step: str, dataset: dsl.Output[dsl.Dataset]) -> dsl.ContainerSpec:
    """Take a dataset that is in the store already.

    Args:
        uri: Its address, s3://datasets/<name>/<digest>.
        run: Identifier of the pipeline's run, under which the step notes how it went.
        step: The step's name in that note.
        dataset: Manifest of the dataset.
    """
    return radiffuse(
        PIPELINE_IMAGE,
        *("find", uri),
        *("--kind", "dataset"),
        *("--out", dataset.path),
    )
