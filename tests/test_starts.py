"""What a run remembers of its starts, in a real store."""

import time

import pytest

from radiffuse.checkpoint_index import step_uri
from radiffuse.errors import GaveUp
from radiffuse.manifest import Manifest
from radiffuse.outcome import Ending, Outcome
from radiffuse.starts import (
    count_start,
    forget_starts,
    is_terminal,
    read_terminal,
    write_starts,
    write_terminal,
)
from radiffuse.storage import Store
from radiffuse.train_plan import TrainPlan
from tests.light import light_plan


def commit_step(store: Store, plan: TrainPlan, step: int) -> None:
    """A checkpoint that is complete."""
    uri = step_uri(plan.checkpoints_uri, step)
    store.commit(Manifest(kind="checkpoint", name=plan.name, uri=uri, digest=plan.digest))


def crash(store: Store, plan: TrainPlan, reason: str = "rank 1 was killed by SIGKILL") -> None:
    """A start that is counted, and ends badly."""
    write_starts(store, plan, count_start(store, plan, 3).ended(Ending(Outcome.CRASHED, reason, 0)))


def test_starts_that_get_no_further_are_given_up_with_the_last_reason(store: Store) -> None:
    plan = light_plan()
    for _ in range(3):
        crash(store, plan)
    with pytest.raises(GaveUp, match=r"3 starts in a row got no further than step 0; .*: rank 1 was killed by SIGKILL"):
        count_start(store, plan, 3)


def test_a_newer_checkpoint_is_progress_and_the_count_begins_again(store: Store) -> None:
    plan = light_plan()
    for step in range(1, 9):
        crash(store, plan)
        if step % 3 == 0:
            commit_step(store, plan, step)
    now = count_start(store, plan, 3)
    assert (now.total, now.starts, now.step, now.endings) == (9, 3, 6, {"CRASHED": 8})


def test_the_time_and_the_step_of_the_first_start_are_kept_until_the_plan_is_submitted_anew(store: Store) -> None:
    plan, before = light_plan(), time.time()
    commit_step(store, plan, 5)
    first = count_start(store, plan, 3)
    assert before <= first.first_unix_seconds <= time.time() and first.first_step == 5
    commit_step(store, plan, 8)
    second = count_start(store, plan, 3)
    assert (second.first_unix_seconds, second.first_step) == (first.first_unix_seconds, 5)
    forget_starts(store, plan)
    anew = count_start(store, plan, 3)
    assert anew.first_unix_seconds > first.first_unix_seconds and anew.first_step == 8


def test_a_start_that_was_killed_without_a_word_counts_too(store: Store) -> None:
    plan = light_plan()
    for _ in range(3):
        count_start(store, plan, 3)
    with pytest.raises(GaveUp, match="it was killed before it could say why"):
        count_start(store, plan, 3)


def test_a_terminal_record_holds_for_the_very_same_plan_until_it_is_submitted_anew(store: Store) -> None:
    plan = light_plan()
    other = plan.model_copy(update={"settings": plan.settings.model_copy(update={"train_batch_size": 1})})
    ending = Ending(Outcome.WRONG_INPUT, "no such dataset", 0)
    assert read_terminal(store, plan) is None
    write_terminal(store, plan, ending)
    assert read_terminal(store, plan) == ending
    assert other.checkpoints_uri == plan.checkpoints_uri
    assert read_terminal(store, other) is None
    count_start(store, plan, 3)
    forget_starts(store, plan)
    assert read_terminal(store, plan) is None
    assert count_start(store, plan, 3).total == 1


def test_what_a_retry_may_cure_is_not_terminal() -> None:
    assert [outcome for outcome in Outcome if is_terminal(outcome)] == [Outcome.WRONG_INPUT, Outcome.GAVE_UP]
