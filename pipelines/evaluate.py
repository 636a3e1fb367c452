"""Judge a model that is in the store already."""

from kfp import dsl

from components.evaluate.component import evaluate as evaluate_step
from components.find_dataset.component import find_dataset
from components.sample.component import sample
from components.stage.component import stage
from pipelines.placement import Cluster, on_cluster
from pipelines.steps import Steps

NAMES = ("find dataset", "stage base", "stage adapted", "sample before", "sample after", "evaluate")


@dsl.pipeline(name="evaluate")
@on_cluster
def evaluate(dataset: str, model: str, base_model: str, config: str, *, cluster: Cluster) -> None:
    """Draw samples from a model and from the one it was adapted from, and judge them; samples in the store are kept.

    Args:
        dataset: Address of the dataset that the model was adapted to, s3://datasets/<name>/<digest>.
        model: Address of the adapted model, s3://models/<name>/<digest>.
        base_model: 'tiny', a diffusers folder, a Hugging Face id with its commit (org/name@commit), or s3://models/...
        config: A preset's name, or a run's whole document as YAML or JSON; `sample` and `evaluate` are read.
        cluster: Where its steps run; each field becomes a parameter.
    """
    steps = Steps(cluster, *NAMES)
    with steps.ending():
        images = steps("find dataset", find_dataset, uri=dataset).outputs["dataset"]
        base = steps("stage base", stage, source=base_model).outputs["model"]
        adapted = steps("stage adapted", stage, source=model).outputs["model"]
        before = steps("sample before", sample, model=base, role="before", config=config)
        after = steps("sample after", sample, model=adapted, role="after", config=config)
        samples = {"before": before.outputs["samples"], "after": after.outputs["samples"]}
        steps("evaluate", evaluate_step, dataset=images, config=config, **samples)
