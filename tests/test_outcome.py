"""Exit codes and the words beside them."""

import pytest

from radiffuse.errors import ConfigError, DataError, GaveUp, Preempted, StorageError, TrainingError
from radiffuse.outcome import MESSAGE_BYTES, Ending, Outcome, read_ending


def test_codes_from_128_on_are_worth_a_retry() -> None:
    assert [outcome for outcome in Outcome if outcome.is_retryable] == [Outcome.CRASHED, Outcome.PREEMPTED]
    assert [int(outcome) for outcome in Outcome] == [0, 1, 2, 3, 134, 143]


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (ConfigError("x"), Outcome.WRONG_INPUT),
        (DataError("x"), Outcome.WRONG_INPUT),
        (GaveUp("x"), Outcome.GAVE_UP),
        (Preempted("x"), Outcome.PREEMPTED),
        (StorageError("x"), Outcome.CRASHED),
        (TrainingError("x"), Outcome.CRASHED),
        (ZeroDivisionError("x"), Outcome.CRASHED),
    ],
)
def test_an_error_decides_whether_another_start_may_help(error: Exception, outcome: Outcome) -> None:
    assert Outcome.of(error) is outcome


def test_an_ending_is_read_back_as_it_was() -> None:
    ending = Ending(Outcome.GAVE_UP, "rank 1 was killed by SIGKILL", 40)
    assert read_ending(ending.to_json()) == ending


@pytest.mark.parametrize("text", ["", "Traceback (most recent call last):", "[]", '{"outcome": "ODD"}', "null", "3"])
def test_anything_else_is_no_ending(text: str) -> None:
    assert read_ending(text) is None


@pytest.mark.parametrize("character", ["x", "é", '"', "😀"])
def test_a_long_reason_is_cut_to_what_the_kubelet_keeps(character: str) -> None:
    text = Ending(Outcome.CRASHED, character * 5000, 7).to_json()
    ending = read_ending(text)
    assert len(text.encode()) <= MESSAGE_BYTES
    assert ending is not None and ending.reason.endswith(character + "...") and ending.global_step == 7
