"""Findings as edits of the chest's volume: fluid, air, consolidation and a larger heart, each by size and side.

Every edit is a soft mask over a lung's box, so that the truth of an image is the list of what was applied to it.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from radiffuse.data.anatomy import SIDES, Array, Region, Stack

Side = Literal["left", "right"]

FLUID = 1.0  # attenuation of an effusion, water's
BLOOD = 1.05  # of heart muscle and blood
VESSEL_GAIN = 0.25  # the scan's 2.5 mm slices thin out small vessels; this gives them back what they lost


@dataclass(frozen=True)
class Effusion:
    """Pleural fluid that fills one side up to height_mm above the lung's lowest point, and higher along the wall.

    Below about 75 mm it hides behind the diaphragm's dome, in a frontal view as in life. meniscus_mm: how much higher
    it stands at the wall, falling off over meniscus_reach_mm.
    """

    side: Side
    height_mm: float
    meniscus_mm: float = 60.0
    meniscus_reach_mm: float = 16.0


@dataclass(frozen=True)
class Pneumothorax:
    """Air between lung and wall: depth_mm wide at the apex, narrowing downwards; the lung within is denser."""

    side: Side
    depth_mm: float


@dataclass(frozen=True)
class Consolidation:
    """A patch of airless lung around a point of a lobe. place picks the point, in [0, 1); strength is its density."""

    lobe: str
    place: float
    radius_mm: float
    strength: float
    texture_seed: int


@dataclass(frozen=True)
class Condition:
    """Everything that is wrong with a chest; the default is nothing.

    heart_growth_mm: of the ventricles' outline, left the most. shift_mm: of the mediastinum towards the patient's left.
    """

    effusions: tuple[Effusion, ...] = ()
    pneumothorax: Pneumothorax | None = None
    consolidations: tuple[Consolidation, ...] = ()
    heart_growth_mm: float = 0.0
    shift_mm: float = 0.0


def apply_condition(volume: Array, stack: Stack, condition: Condition, lung_haze: float) -> None:
    """Edit volume (K, Z, U) in place; lung_haze is added to the attenuation of both lungs, in units of water's."""
    for side in SIDES:
        region = stack.lungs[side]
        part = volume[region.box]
        part += region.share * (np.float32(lung_haze) + np.float32(VESSEL_GAIN) * part)
        if condition.heart_growth_mm > 0:
            _grow_heart(part, stack, region, condition.heart_growth_mm * (1.0 if side == "left" else 0.6))
    for consolidation in condition.consolidations:
        _consolidate(volume, stack, consolidation)
    if condition.pneumothorax is not None:
        _collapse(volume, stack, condition.pneumothorax)
    for effusion in condition.effusions:
        _fill(volume, stack, effusion)


def _replace(part: Array, mask: Array, value: float) -> None:
    """Mix value into part where mask, in [0, 1], says so."""
    part += mask * (np.float32(value) - part)


def _soft_step(distance_mm: Array, edge_mm: float) -> Array:
    """0 to 1 as the distance goes from -edge to edge."""
    return np.asarray(np.clip(np.float32(0.5) + distance_mm * np.float32(0.5 / edge_mm), 0, 1), dtype=np.float32)


def _box_axis(axis_mm: Array, region: Region, axis: int) -> Array:
    """Coordinates along one axis of a region's box, shaped to broadcast over it."""
    shape = [1, 1, 1]
    shape[axis] = -1
    return axis_mm[region.box[axis]].reshape(shape)


def _fill(volume: Array, stack: Stack, effusion: Effusion) -> None:
    region = stack.lungs[effusion.side]
    above_base = _box_axis(stack.z_mm, region, 1) - np.float32(region.base_mm)
    rise = np.float32(effusion.meniscus_mm) * np.exp(region.pleura_mm * np.float32(-1 / effusion.meniscus_reach_mm))
    fluid = _soft_step(np.float32(effusion.height_mm) + rise - above_base, 4.0)
    _replace(volume[region.box], fluid * region.share, FLUID)


def _collapse(volume: Array, stack: Stack, pneumothorax: Pneumothorax) -> None:
    region = stack.lungs[pneumothorax.side]
    part = volume[region.box]
    height = (_box_axis(stack.z_mm, region, 1) - np.float32(region.base_mm)) / np.float32(
        region.top_mm - region.base_mm
    )
    width = np.float32(pneumothorax.depth_mm) * (np.float32(0.35) + np.float32(0.65) * height)
    inward = region.wall_mm - width
    collapsed = np.clip(1 + pneumothorax.depth_mm / 100, 1, 1.6)
    part *= 1 + np.float32(collapsed - 1) * region.share * (inward > 0)
    line = np.maximum(1 - np.abs(inward - 1) / np.float32(2.5), 0) * region.share
    part += np.float32(0.18) * line  # the visceral pleura, seen edge on
    _replace(part, _soft_step(-inward, 1.5) * region.share, 0.0)


def _consolidate(volume: Array, stack: Stack, consolidation: Consolidation) -> None:
    side: Side = "left" if consolidation.lobe.startswith("left") else "right"
    region = stack.lungs[side]
    points = stack.lobe_points[consolidation.lobe]
    centre = points[int(consolidation.place * len(points))]
    axes = (stack.depth_mm, stack.z_mm, stack.u_mm)
    squared = sum((_box_axis(axes[i], region, i) - centre[i]) ** 2 for i in range(3))
    distance = np.sqrt(np.asarray(squared, dtype=np.float32)) / np.float32(consolidation.radius_mm)
    texture = _smooth_noise(distance.shape, consolidation.texture_seed)
    blob = np.clip((1.15 - distance + np.float32(0.45) * texture) * 2, 0, 1)
    _replace(volume[region.box], np.float32(consolidation.strength) * blob * region.share, 0.9)


def _smooth_noise(shape: tuple[int, ...], seed: int, knots: int = 7) -> Array:
    """Random field of that shape, about -1 to 1, varying over a seventh of it."""
    field = np.random.default_rng(seed).standard_normal((knots, knots, knots), dtype=np.float32)
    for axis, length in enumerate(shape):
        place = np.linspace(0, knots - 1, length, dtype=np.float32)
        weights = np.maximum(1 - np.abs(place[:, None] - np.arange(knots, dtype=np.float32)), 0)
        field = np.moveaxis(np.tensordot(weights, field, axes=(1, axis)), 0, axis)
    return np.ascontiguousarray(field)


def _grow_heart(part: Array, stack: Stack, region: Region, growth_mm: float) -> None:
    """Only the ventricles grow: above the valves the great vessels keep their outline."""
    ventricles = np.clip((np.float32(30) - _box_axis(stack.z_mm, region, 1)) / np.float32(40), 0, 1)
    _replace(part, _soft_step(np.float32(growth_mm) * ventricles - region.heart_mm, 2.0) * region.share, BLOOD)
