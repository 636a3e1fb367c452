"""A batch that the job's processes cannot share is refused before anything is prepared, as the launcher would."""

import re
from typing import Any

import pytest

from radiffuse.config import load_config
from radiffuse.errors import ConfigError
from radiffuse.train_plan import plan_batches
from tests.charts.rendering import HelmError, Object, template

pytestmark = pytest.mark.charts


def asked(nodes: int, gpus: int, *overrides: str, processes: int | None = None, **config: Any) -> Object:
    """Values of a job that trains."""
    document = {"nodes": nodes, "gpus_per_node": gpus, "processes_per_node": processes}
    return {"job": {"enabled": True, "template": document, "config": {"overrides": list(overrides), **config}}}


def said_by_the_chart(values: Object) -> str | None:
    """What Helm refuses the values with; None when it takes them."""
    try:
        template(values)
    except HelmError as error:
        return str(error)
    return None


def is_plan(preset: str, processes: int, *overrides: str) -> bool:
    """Whether the launcher could share the batch."""
    settings = load_config(preset, overrides).train
    try:
        plan_batches(settings.total_batch_size, settings.train_batch_size, processes)
    except ConfigError:
        return False
    return True


def test_the_default_job_is_too_large_for_the_default_run_and_what_is_said_to_do_works() -> None:
    said = said_by_the_chart({"job": {"enabled": True}})
    assert said is not None
    assert (
        "job.template.nodes: 2 pods of 32 processes cannot share a batch of 24 images, train.total_batch_size" in said
    )
    (override,) = re.findall(r"or add (\S+) to job.config.overrides", said)
    assert said_by_the_chart({"job": {"enabled": True, "config": {"overrides": [override]}}}) is None


@pytest.mark.parametrize(
    ("preset", "nodes", "gpus", "overrides"),
    [
        ("demo", 1, 2, ()),
        ("demo", 2, 8, ()),
        ("demo", 1, 24, ()),
        ("demo", 1, 1, ("train.train_batch_size=10",)),
        ("demo", 1, 1, ("train.train_batch_size=10", "train.train_batch_size=8")),
        ("roentgen-1k", 2, 32, ()),
        ("roentgen-1k", 3, 8, ()),
        ("roentgen-1k", 1, 8, ("train.total_batch_size=250",)),
        ("roentgen-12k5", 1, 8, ("train.max_train_steps=100", "train.total_batch_size=64")),
    ],
)
def test_the_chart_takes_what_the_launcher_takes(
    preset: str, nodes: int, gpus: int, overrides: tuple[str, ...]
) -> None:
    said = said_by_the_chart(asked(nodes, gpus, *overrides, preset=preset))
    assert (said is None) == is_plan(preset, nodes * gpus, *overrides), said


def test_processes_count_where_they_are_given() -> None:
    assert said_by_the_chart(asked(1, 0, processes=2)) is None
    assert "1 pods of 7 processes" in str(said_by_the_chart(asked(1, 0, processes=7)))


def test_a_document_says_its_own_batch_or_has_the_usual_one() -> None:
    small = {"name": "x", "train": {"total_batch_size": 6, "train_batch_size": 4}}
    assert said_by_the_chart(asked(1, 2, document=small)) is None
    assert "each of 1 processes has 6 of the 6 images" in str(said_by_the_chart(asked(1, 1, document=small)))
    assert "a batch of 256 images" in str(said_by_the_chart(asked(1, 3, document={"name": "x"})))
