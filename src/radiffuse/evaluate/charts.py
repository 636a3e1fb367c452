"""Line charts as inline SVG: axes, ticks, labels, nothing from outside."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 560, 260
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 16, 48
TICKS = 5


@dataclass(frozen=True)
class Tick:
    """A mark on an axis: where, in SVG units, and what it says."""

    position: float
    label: str


@dataclass(frozen=True)
class Chart:
    """What the template draws. `raw` and `smooth` are SVG polyline points."""

    title: str
    x_label: str
    y_label: str
    raw: str
    smooth: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    description: str
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM


def line_chart(
    title: str, x_label: str, y_label: str, xs: Sequence[float], ys: Sequence[float], from_zero: bool = False
) -> Chart:
    """A curve, thin, and its running mean over a tenth of the points, thick. At least one point."""
    x_ticks, y_ticks = nice_ticks(0, max(xs)), nice_ticks(0 if from_zero else min(ys), max(ys))
    x_low, x_high = 0.0, max(x_ticks[-1], max(xs))
    y_low, y_high = min(y_ticks[0], min(ys)), max(y_ticks[-1], max(ys))

    def across(value: float) -> float:
        return LEFT + (value - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT)

    def down(value: float) -> float:
        return HEIGHT - BOTTOM - (value - y_low) / (y_high - y_low) * (HEIGHT - TOP - BOTTOM)

    def points(values: Sequence[float]) -> str:
        return " ".join(f"{across(x):.1f},{down(y):.1f}" for x, y in zip(xs, values, strict=True))

    smooth = running_mean(ys, max(1, len(ys) // 10))
    return Chart(
        title=title,
        x_label=x_label,
        y_label=y_label,
        raw=points(ys),
        smooth=points(smooth),
        x_ticks=tuple(Tick(across(value), format_tick(value)) for value in x_ticks),
        y_ticks=tuple(Tick(down(value), format_tick(value)) for value in y_ticks),
        description=f"{title}: from {smooth[0]:.3g} at {x_label} {xs[0]:g} to {smooth[-1]:.3g} at {xs[-1]:g}",
    )


def nice_ticks(low: float, high: float) -> list[float]:
    """Round numbers, about TICKS of them, that enclose low and high."""
    scale = max(abs(low), abs(high))
    # A curve as flat as rounding gets a scale of its own height.
    span = high - low if high - low > 1e-12 + 1e-9 * scale else max(scale, 1.0)
    step = 10 ** math.floor(math.log10(span / TICKS))
    step *= next(factor for factor in (1, 2, 2.5, 5, 10) if span / (step * factor) <= TICKS)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [step * number for number in range(first, max(last, first + 1) + 1)]


def running_mean(values: Sequence[float], width: int) -> list[float]:
    """Mean of each value and its neighbours up to half of `width` away; fewer at the ends."""
    half = width // 2
    windows = [values[max(0, place - half) : place + half + 1] for place in range(len(values))]
    return [sum(window) / len(window) for window in windows]


def format_tick(value: float) -> str:
    """Short, with thin spaces between thousands."""
    return f"{value:,.0f}".replace(",", "\N{THIN SPACE}") if abs(value) >= 1000 else f"{value:.6g}"
