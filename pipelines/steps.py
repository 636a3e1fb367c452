"""The steps that pipelines are wired of, each named, placed on the cluster, and told under which run it goes."""

from typing import Any

from kfp import dsl

from components.encode.component import encode
from components.encode_part.component import encode_part
from components.evaluate.component import evaluate
from components.evaluate_external.component import evaluate_external
from components.find_dataset.component import find_dataset
from components.finish.component import finish
from components.ingest.component import ingest
from components.ingest_part.component import ingest_part
from components.sample.component import sample
from components.sample_part.component import sample_part
from components.stage.component import stage
from components.train.component import train
from pipelines.placement import COMPUTE, FIND, FINISH, INGEST, LAUNCH, STAGE, Cluster, Work, place

WORK = {
    ingest: INGEST,
    ingest_part: INGEST,
    stage: STAGE,
    find_dataset: FIND,
    encode: COMPUTE,
    encode_part: COMPUTE,
    train: LAUNCH,
    sample: COMPUTE,
    sample_part: COMPUTE,
    evaluate: COMPUTE,
    evaluate_external: COMPUTE,
}
RUN = dsl.PIPELINE_JOB_ID_PLACEHOLDER


class Steps:
    """Makes the steps of one pipeline; `with` runs the last one, which says how the run ended, whatever happened."""

    def __init__(self, cluster: Cluster, *names: str) -> None:
        self._cluster = cluster
        self._names = names
        task = finish(run=RUN, steps=list(names))
        self._finish = _placed(task, "finish", FINISH, cluster)

    def ending(self) -> dsl.ExitHandler:
        """The group of all other steps."""
        return dsl.ExitHandler(self._finish, name="steps")

    def __call__(self, name: str, component: Any, **inputs: Any) -> dsl.PipelineTask:
        """One step; its name must be among those that the end is told of."""
        assert name in self._names
        return _placed(component(run=RUN, step=name, **inputs), name, WORK[component], self._cluster)

    def parts(self, name: str, parts: Any, component: Any, **inputs: Any) -> dsl.PipelineTask:
        """The same step once for each part, side by side; those that finish it must wait for the task returned."""
        with dsl.ParallelFor(parts, name=f"{name} parts") as part:
            return _placed(component(run=RUN, step=name, part=part, **inputs), name, WORK[component], self._cluster)


def _placed(task: dsl.PipelineTask, name: str, work: Work, cluster: Cluster) -> dsl.PipelineTask:
    return place(task.set_display_name(name), work, cluster)
