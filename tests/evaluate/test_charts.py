"""Charts: ticks that people can read, points inside the frame."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from radiffuse.evaluate.charts import HEIGHT, WIDTH, format_tick, line_chart, nice_ticks, running_mean
from radiffuse.evaluate.numbers import grouped, percent, plain

NUMBERS = st.floats(-1e6, 1e6, allow_nan=False)


@given(NUMBERS, st.floats(0, 1e6, allow_nan=False))
def test_ticks_enclose_the_values_and_are_few(low: float, span: float) -> None:
    ticks = nice_ticks(low, low + span)
    slack = 1e-6 * max(abs(low), span, 1e-3)
    assert 2 <= len(ticks) <= 8
    assert ticks[0] <= low + slack
    assert ticks[-1] >= low + span - slack


def test_ticks_are_round() -> None:
    assert nice_ticks(0, 487) == [0, 100, 200, 300, 400, 500]


@given(st.lists(NUMBERS, min_size=1, max_size=40))
def test_every_point_lies_inside_the_frame(values: list[float]) -> None:
    chart = line_chart("t", "x", "y", list(range(1, len(values) + 1)), values)
    for point in f"{chart.raw} {chart.smooth}".split():
        x, y = map(float, point.split(","))
        assert 0 <= x <= WIDTH
        assert 0 <= y <= HEIGHT


def test_the_description_says_where_the_curve_starts_and_ends() -> None:
    chart = line_chart("Loss", "step", "mse", [10, 20, 30], [1.0, 0.5, 0.25])
    assert chart.description == "Loss: from 1 at step 10 to 0.25 at 30"


def test_a_running_mean_of_width_three() -> None:
    assert running_mean([0, 3, 6, 9], 3) == [1.5, 3, 6, 7.5]


@pytest.mark.parametrize(("value", "text"), [(0.30000000000000004, "0.3"), (12500, "12\N{THIN SPACE}500"), (0, "0")])
def test_ticks_say_short_numbers(value: float, text: str) -> None:
    assert format_tick(value) == text


def test_numbers_as_people_read_them() -> None:
    assert percent(0.975) == "97.5\N{NARROW NO-BREAK SPACE}%"
    assert percent(1.0) == "100\N{NARROW NO-BREAK SPACE}%"
    assert (plain(123.4), plain(41.66), plain(0.2)) == ("123", "41.7", "0.200")
    assert grouped(1485000) == "1\N{NARROW NO-BREAK SPACE}485\N{NARROW NO-BREAK SPACE}000"
    assert (grouped("text"), grouped(0.247), grouped(True)) == ("text", "0.247", "True")
