"""Ingest as a KFP component."""

from kfp import dsl

from components.image import IMAGE


@dsl.container_component
def ingest(layout: str, source: str, config: str, dataset: dsl.Output[dsl.Dataset]) -> dsl.ContainerSpec:
    """Read a published layout and write image-prompt shards into the store.

    Args:
        layout: chexpert or mimic.
        source: The dataset's folder, as the step sees it.
        config: A preset's name, or a run's whole document as YAML or JSON.
        dataset: Manifest of the dataset.
    """
    return dsl.ContainerSpec(
        image=IMAGE,
        command=["radiffuse"],
        args=[
            *("ingest", layout),
            *("--source", source),
            *("--config", config),
            *("--out", dataset.path),
            *("--executor-input", dsl.PIPELINE_TASK_EXECUTOR_INPUT_PLACEHOLDER),
        ],
    )
