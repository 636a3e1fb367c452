"""Radiographs from a stack: perspective projection by two matrix products, then film, scatter, noise and tone.

For a beam that diverges from a point, each slice across the beam is magnified by its distance from the detector, and
a small tilt of the patient shifts it in proportion to its depth (shear-warp; Lacroute and Levoy 1994). Magnifying and
shifting are separable, so the sum over slices is one batched and one plain matrix product. What acts on the image as
a whole (roll, individual shape) is a warp of the finished projection.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from radiffuse.data.anatomy import FIELD_OF_VIEW_MM, Array, Stack
from radiffuse.data.overlay import Stroke, stroke_mask
from radiffuse.data.pathology import Condition, apply_condition

WATER_PER_MM = 0.0195  # attenuation of water near 70 keV, the mean of a 120 kVp beam
SOURCE_MM = {"PA": 1800.0, "AP": 1000.0, "LATERAL": 1800.0}  # source to detector; AP is taken at the bedside
EDGE_SLICES = 6  # beyond the scan's top goes on what these show on average
BODY_MM = 25.0  # of water: less is bare film, which says nothing about exposure
DEVICE_MM = 45.0  # of water that a wire or a tube's wall is worth
BREAST_DOWN_MM = 30.0  # from the middle of the lungs
CENTRE_MM = 12.0  # the film's centre lies this far below the lungs' middle, so that it ends where the scan does
WARP_KNOTS = 4


@dataclass(frozen=True)
class Pose:
    """How the patient stands before the detector. Angles in degrees, shifts in millimetres of the detector."""

    pitch: float = 0.0
    yaw: float = 0.0
    roll: float = 0.0
    shift_mm: tuple[float, float] = (0.0, 0.0)
    zoom: float = 1.0


@dataclass(frozen=True)
class Habitus:
    """What differs between bodies of the same health. Scales multiply; lengths in millimetres.

    warp_mm: (2, 4, 4) displacements (down, right) at knots over the image. breast_mm: thickness, 0 for none.
    """

    width: float = 1.0
    height: float = 1.0
    soft_tissue: float = 1.0
    bone: float = 1.0
    lung_haze: float = 0.04
    breast_mm: float = 0.0
    warp_mm: tuple[tuple[tuple[float, ...], ...], ...] = ()


@dataclass(frozen=True)
class Exposure:
    """From dose to grey value. scatter: share of scattered light; noise: standard deviation in grey at the lung."""

    scatter: float = 0.2
    noise: float = 0.01
    contrast: float = 1.0
    brightness: float = 0.0
    detail: float = 0.6
    seed: int = 0


def render(
    stack: Stack,
    view: str,
    size_px: int,
    condition: Condition,
    habitus: Habitus,
    pose: Pose,
    exposure: Exposure,
    devices: tuple[Stroke, ...] = (),
    marker: tuple[Stroke, ...] = (),
) -> NDArray[np.uint8]:
    """A (size_px, size_px) radiograph; view is "PA", "AP" (frontal stack) or "LATERAL" (lateral stack).

    devices lie in the beam, marker is the lead letter beside the patient; both are strokes on the image.

    Frontal images show the patient's left on the right; lateral ones the front on the left.
    """
    volume = stack.soft * np.float32(habitus.soft_tissue) + stack.bone * np.float32(habitus.bone)
    apply_condition(volume, stack, condition, habitus.lung_haze)
    oversampling = 1.25 if size_px < 256 else 1.0
    pitch_mm = FIELD_OF_VIEW_MM / size_px / oversampling
    grid_mm = _centred(round(1.16 * size_px * oversampling), pitch_mm)
    path_mm = project(volume, stack, grid_mm, view, habitus, pose)
    rows, columns = _sample_places(size_px, habitus, pose, condition.shift_mm)
    places = np.stack([rows, columns]) / np.float32(pitch_mm) + np.float32((len(grid_mm) - 1) / 2)
    path_mm = ndimage.map_coordinates(path_mm, places, order=1 if size_px < 256 else 3, mode="nearest")
    if view != "LATERAL" and habitus.breast_mm > 0:
        path_mm += _breasts(size_px, habitus.breast_mm)
    for stroke in devices:
        path_mm += stroke_mask(size_px, stroke) * np.float32(DEVICE_MM)
    grey = develop(path_mm, exposure)
    for stroke in marker:
        grey += stroke_mask(size_px, stroke)
    return (np.clip(grey, 0, 1) * 255 + 0.5).astype(np.uint8)


def _centred(count: int, step: float) -> Array:
    return ((np.arange(count) - (count - 1) / 2) * step).astype(np.float32)


def project(volume: Array, stack: Stack, grid_mm: Array, view: str, habitus: Habitus, pose: Pose) -> Array:
    """Water-equivalent millimetres along each ray, (P, P): rows downwards, columns as displayed.

    volume: (K, Z, U). grid_mm: (P,) coordinates in the plane through the middle of the chest.
    """
    source = SOURCE_MM[view]
    towards_detector = -1.0 if view == "AP" else 1.0  # AP: the back is on the detector, PA: the front
    depth = stack.depth_mm * np.float32(towards_detector)
    gap = float(depth.max()) + 20
    # A ray through a point of the middle plane meets the slices nearer to the tube closer to the axis.
    spread = np.asarray((source - gap + depth) / (source - gap), dtype=np.float32)[:, None]
    flip = -1.0 if view == "LATERAL" else 1.0
    across: Array = grid_mm[None, :] * np.float32(flip / habitus.width / pose.zoom) * spread
    up: Array = -grid_mm[None, :] * np.float32(1 / habitus.height / pose.zoom) * spread - np.float32(CENTRE_MM)
    across = across + _shear(stack.depth_mm, pose.yaw)
    up = up + _shear(stack.depth_mm, pose.pitch)
    columns = _cubic_weights(stack.u_mm, across, keep_edge=False)
    rows = _cubic_weights(stack.z_mm, up, keep_edge=True)
    slices = np.matmul(volume, columns).reshape(-1, len(grid_mm))
    step = float(stack.depth_mm[1] - stack.depth_mm[0])
    return np.asarray(rows.reshape(-1, len(grid_mm)).T @ slices, dtype=np.float32) * np.float32(step)


def _shear(depth_mm: Array, degrees: float) -> Array:
    """(K, 1) shift of each slice that a small turn of the patient amounts to."""
    return np.asarray(depth_mm[:, None] * np.tan(np.radians(degrees)), dtype=np.float32)


def _cubic_weights(axis_mm: Array, places_mm: Array, keep_edge: bool) -> Array:
    """(K, N, P) Catmull-Rom weights that read places (K, P) from N samples; beyond them is the last sample, or air."""
    count, step = len(axis_mm), float(axis_mm[1] - axis_mm[0])
    position = np.clip((places_mm - axis_mm[0]) / np.float32(step), -2, count + 1)
    index = np.floor(position).astype(np.int64)
    t = (position - index).astype(np.float32)
    taps = (
        ((2 - t) * t - 1) * t / 2,
        ((3 * t - 5) * t * t + 2) / 2,
        ((4 - 3 * t) * t + 1) * t / 2,
        (t - 1) * t * t / 2,
    )
    padded = np.zeros((places_mm.shape[0], count + 8, places_mm.shape[1]), dtype=np.float32)
    depth = np.arange(places_mm.shape[0])[:, None]
    place = np.arange(places_mm.shape[1])[None, :]
    for offset, weight in enumerate(taps):
        padded[depth, index + (offset + 3), place] = weight
    weights = padded[:, 4:-4]
    if keep_edge:
        weights[:, 0] += padded[:, :4].sum(axis=1)
        weights[:, -EDGE_SLICES:] += padded[:, None, -4:].sum(axis=2) / np.float32(EDGE_SLICES)
    return np.ascontiguousarray(weights)


def _sample_places(size_px: int, habitus: Habitus, pose: Pose, shift_mm: float) -> tuple[Array, Array]:
    """Millimetres (down, right) of the projection that each pixel shows: roll, shift and individual shape."""
    axis = _centred(size_px, FIELD_OF_VIEW_MM / size_px)
    down, right = axis[:, None], axis[None, :]
    cos, sin = np.float32(np.cos(np.radians(pose.roll))), np.float32(np.sin(np.radians(pose.roll)))
    rows = cos * down - sin * right - np.float32(pose.shift_mm[0])
    columns = sin * down + cos * right - np.float32(pose.shift_mm[1])
    if habitus.warp_mm:
        basis = _knot_basis(size_px)
        warp = np.asarray(habitus.warp_mm, dtype=np.float32)
        rows = rows + basis @ warp[0] @ basis.T
        columns = columns + basis @ warp[1] @ basis.T
    if shift_mm != 0:  # the mediastinum moves, the chest wall stays
        columns = columns - np.float32(shift_mm) * np.exp(-((columns / np.float32(75)) ** 2))
    return rows, columns


@lru_cache(maxsize=8)
def _knot_basis(size_px: int) -> Array:
    """(size_px, knots) smooth weights that add up to 1."""
    place = np.linspace(-0.2, WARP_KNOTS - 0.8, size_px, dtype=np.float32)
    weights = np.exp(-((place[:, None] - np.arange(WARP_KNOTS)) ** 2) / np.float32(0.7))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), dtype=np.float32)


def _breasts(size_px: int, thickness_mm: float) -> Array:
    """Extra soft tissue over the lower lungs, in millimetres."""
    axis = _centred(size_px, FIELD_OF_VIEW_MM / size_px)
    down, right = axis[:, None], axis[None, :]
    radius_mm = 48 + 0.25 * thickness_mm
    out = np.zeros((size_px, size_px), dtype=np.float32)
    for centre in (-72.0, 72.0):
        # Pear-shaped: it fades upwards and towards the middle, and ends in a soft fold below.
        below = np.where(down > BREAST_DOWN_MM, 0.8, 1.5)
        squared = ((right - centre) / radius_mm) ** 2 + ((down - BREAST_DOWN_MM) / (below * radius_mm)) ** 2
        out += np.float32(thickness_mm) * np.clip(1 - squared, 0, 1).astype(np.float32)
    return out


@lru_cache(maxsize=16)
def _blur_matrix(size_px: int, sigma_px: float) -> Array:
    """(size_px, size_px) Gaussian averages along an axis."""
    index = np.arange(size_px, dtype=np.float32)
    weights = np.exp(-((index[:, None] - index[None, :]) ** 2) / np.float32(2 * sigma_px**2))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), dtype=np.float32)


def _blur(image: Array, sigma_px: float) -> Array:
    weights = _blur_matrix(image.shape[0], sigma_px)
    return np.asarray(weights @ image @ weights.T, dtype=np.float32)


def develop(path_mm: Array, exposure: Exposure) -> Array:
    """Grey values (H, W), about 0 to 1, of a square image of path lengths.

    Scatter, exposure by percentiles of the body, noise, local contrast, and a tone curve with a toe and a shoulder.
    """
    size_px = path_mm.shape[0]
    rng = np.random.default_rng(exposure.seed)
    light = np.exp(path_mm * np.float32(-WATER_PER_MM))
    scattered = _blur(np.minimum(light, np.float32(0.3)), size_px * 0.12)
    density = -np.log(light + np.float32(exposure.scatter) * scattered + np.float32(1e-4))
    body = path_mm > BODY_MM
    low, high = np.percentile(density[body] if body.any() else density, (2, 99))
    grey = (density - low) / np.float32(max(high - low, 0.5))
    grain = _blur(rng.standard_normal(grey.shape, dtype=np.float32), 0.6) * np.float32(2.2 * exposure.noise)
    grey = grey + grain * (np.float32(0.5) + np.clip(grey, 0, 1.2))
    grey = grey + np.float32(exposure.detail) * (grey - _blur(np.clip(grey, -0.3, 1.2), size_px * 0.05))
    grey = np.float32(exposure.contrast) * (grey - np.float32(0.5 - exposure.brightness))
    return np.asarray(0.49 + 0.56 * np.tanh(grey * np.float32(1.35)), dtype=np.float32)
