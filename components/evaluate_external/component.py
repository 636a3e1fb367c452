"""Evaluate on a second dataset too as a KFP component."""

from kfp import dsl

from components.command import radiffuse
from components.image import TRAIN_IMAGE


@dsl.container_component
def evaluate_external(
    dataset: dsl.Input[dsl.Dataset],
    before: dsl.Input[dsl.Dataset],
    after: dsl.Input[dsl.Dataset],
    external: dsl.Input[dsl.Dataset],
    config: str,
    run: str,
    step: str,
    report: dsl.Output[dsl.Artifact],
    html: dsl.Output[dsl.HTML],
    metrics: dsl.Output[dsl.Metrics],
) -> dsl.ContainerSpec:
    """Judge samples from before and after adaptation; a second dataset judges the judge.

    A component of its own: KFP 2.17.0 leaves an optional artifact out of the command even when it is there.

    Args:
        dataset: Manifest of the dataset the model was adapted to.
        before: Manifest of samples from the model before adaptation.
        after: Manifest of samples from the adapted model.
        external: Manifest of a second dataset, which nothing learns from.
        config: A preset's name, or a run's whole document as YAML or JSON.
        run: Identifier of the pipeline's run, under which the step notes how it went.
        step: The step's name in that note.
        report: Manifest of the report.
        html: The report itself, for the dashboard.
        metrics: Its figures, for the dashboard.
    """
    return radiffuse(
        TRAIN_IMAGE,
        "evaluate",
        *("--dataset", dataset.path),
        *("--before", before.path),
        *("--after", after.path),
        *("--external", external.path),
        *("--config", config),
        *("--html", html.path),
        *("--out", report.path),
    )
