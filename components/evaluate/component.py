"""Evaluate as a KFP component."""

from kfp import dsl

from components.image import IMAGE


@dsl.container_component
def evaluate(
    dataset: dsl.Input[dsl.Dataset],
    before: dsl.Input[dsl.Dataset],
    after: dsl.Input[dsl.Dataset],
    config: str,
    report: dsl.Output[dsl.Artifact],
    html: dsl.Output[dsl.HTML],
    metrics: dsl.Output[dsl.Metrics],
    external: dsl.Input[dsl.Dataset] | None = None,
) -> dsl.ContainerSpec:
    """Judge samples from before and after adaptation.

    Args:
        dataset: Manifest of the dataset the model was adapted to.
        before: Manifest of samples from the model before adaptation.
        after: Manifest of samples from the adapted model.
        config: A preset's name, or a run's whole document as YAML or JSON.
        external: Manifest of a second dataset, to judge the judge.
        report: Manifest of the report.
        html: The report itself, for the dashboard.
        metrics: Its figures, for the dashboard.
    """
    return dsl.ContainerSpec(
        image=IMAGE,
        command=["radiffuse"],
        args=[
            "evaluate",
            *("--dataset", dataset.path),
            *("--before", before.path),
            *("--after", after.path),
            dsl.IfPresentPlaceholder(input_name="external", then=["--external", external.path]),
            *("--config", config),
            *("--html", html.path),
            *("--out", report.path),
            *("--executor-input", dsl.PIPELINE_TASK_EXECUTOR_INPUT_PLACEHOLDER),
        ],
    )
