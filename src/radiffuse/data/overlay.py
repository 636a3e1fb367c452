"""Lines that lie over the anatomy: devices in the beam, and the lead letter that says which side is which."""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from radiffuse.data.anatomy import FIELD_OF_VIEW_MM, Array

_MARKER_MM = 6.5  # half the height of a letter
_LETTERS = {  # strokes in units of half a letter, (right, down)
    "L": (((-0.6, -1.0), (-0.6, 1.0), (0.6, 1.0)),),
    "R": (((-0.6, 1.0), (-0.6, -1.0), (0.4, -1.0), (0.6, -0.5), (0.4, 0.0), (-0.6, 0.0)), ((0.0, 0.0), (0.6, 1.0))),
}


@dataclass(frozen=True)
class Stroke:
    """A polyline of points (right, down) in millimetres from the image's centre."""

    points: tuple[tuple[float, float], ...]
    radius_mm: float


def stroke_mask(size_px: int, stroke: Stroke) -> Array:
    """(size_px, size_px) float32 in [0, 1]: how much of a pixel the stroke covers."""
    pixel_mm = FIELD_OF_VIEW_MM / size_px
    axis = ((np.arange(size_px) - (size_px - 1) / 2) * pixel_mm).astype(np.float32)
    covered = np.zeros((size_px, size_px), dtype=np.float32)
    reach = stroke.radius_mm + pixel_mm
    for (x0, y0), (x1, y1) in zip(stroke.points[:-1], stroke.points[1:], strict=True):
        rows = slice(*np.searchsorted(axis, (min(y0, y1) - reach, max(y0, y1) + reach)))
        columns = slice(*np.searchsorted(axis, (min(x0, x1) - reach, max(x0, x1) + reach)))
        right, down = axis[None, columns] - np.float32(x0), axis[rows, None] - np.float32(y0)
        length = max(float(np.hypot(x1 - x0, y1 - y0)), 1e-3)
        along = np.float32((x1 - x0) / length), np.float32((y1 - y0) / length)
        place = np.clip(right * along[0] + down * along[1], 0, np.float32(length))
        distance = np.hypot(right - place * along[0], down - place * along[1])
        part = np.clip((np.float32(stroke.radius_mm) - distance) / np.float32(pixel_mm) + np.float32(0.5), 0, 1)
        covered[rows, columns] = np.maximum(covered[rows, columns], part)
    return covered * np.float32(min(1.0, 2 * stroke.radius_mm / pixel_mm))


def draw_marker(rng: Generator) -> tuple[Stroke, ...]:
    """A letter in the upper corner of its own side: L on the image's right, R on its left; seldom none."""
    letter = str(rng.choice(["L", "R", ""], p=[0.55, 0.3, 0.15]))
    right = rng.uniform(122, 142) * (1 if letter == "L" else -1)
    down = rng.uniform(-146, -120)
    size = _MARKER_MM * rng.uniform(0.8, 1.2)
    return tuple(
        Stroke(tuple((float(right + x * size), float(down + y * size)) for x, y in points), 1.3)
        for points in _LETTERS.get(letter, ())
    )


def draw_line(rng: Generator) -> tuple[Stroke, ...]:
    """A central venous line from the right neck to the superior vena cava."""
    start, end = rng.uniform(-75, -45), rng.uniform(-22, -14)
    t = np.linspace(0, 1, 9)
    right = start + (end - start) * np.sin(t * np.pi / 2)
    down = -140 + t**1.3 * rng.uniform(115, 140)
    return (Stroke(tuple((float(x), float(y)) for x, y in zip(right, down, strict=True)), 0.8),)


def draw_pacemaker(rng: Generator) -> tuple[Stroke, ...]:
    """A generator below the left collar bone and one lead into the right ventricle."""
    right, down = rng.uniform(78, 95), rng.uniform(-88, -72)
    body = tuple((right + 13 * float(np.cos(a)), down + 10 * float(np.sin(a))) for a in np.linspace(0, 2 * np.pi, 9))
    t = np.linspace(0, 1, 12)
    path_right = (1 - t) ** 2 * right + 2 * t * (1 - t) * -45 + t**2 * rng.uniform(15, 35)
    path_down = (1 - t) ** 2 * down + 2 * t * (1 - t) * rng.uniform(-110, -80) + t**2 * rng.uniform(40, 60)
    lead = tuple((float(x), float(y)) for x, y in zip(path_right, path_down, strict=True))
    return (Stroke(body, 6.0), Stroke(((right - 8, down), (right + 8, down)), 8.0), Stroke(lead, 0.9))


def draw_electrodes(rng: Generator) -> tuple[Stroke, ...]:
    """Three monitoring wires over the chest, each ending in a button."""
    strokes = []
    for right, down in ((-80.0, -60.0), (80.0, -62.0), (88.0, 60.0)):
        end = (right + float(rng.normal(0, 10)), down + float(rng.normal(0, 10)))
        leave = (end[0] * 0.6 + float(rng.normal(0, 15)), 165.0)
        middle = ((end[0] + leave[0]) / 2 + float(rng.normal(0, 12)), (end[1] + leave[1]) / 2)
        strokes.append(Stroke((end, middle, leave), 0.6))
        strokes.append(Stroke((end, (end[0] + 0.5, end[1])), 3.5))
    return tuple(strokes)
