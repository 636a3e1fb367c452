"""Blank and unusually cropped pictures, judged from shape and grey values alone.

Only what no disease can imitate counts. A test for the bright spine between dark lungs was tried on simulated frontals:
it found half of the crops that cut off the midline, and every opaque hemithorax, which is what an effusion looks like.
"""

import numpy as np
import numpy.typing as npt

# Cassettes measure 1:1 to 1:1.23 (35 x 43 cm), collimated pictures rarely exceed 1:1.5.
MAX_ASPECT_RATIO = 1.6
# Below this share of the area, what is left of the picture is a window, not a chest.
MIN_CONTENT_SHARE = 0.4
# A row or a column whose values differ by less holds no anatomy.
_EMPTY_LEVELS = 12


def is_odd_shape(width: int, height: int) -> bool:
    """Whether a picture of that shape, in pixels, is too long or too wide to be a whole chest."""
    return max(width, height) > MAX_ASPECT_RATIO * min(width, height)


def content_shape(thumbnail: npt.NDArray[np.uint8]) -> tuple[int, int]:
    """Width and height of what is not a uniform border in (H, W) grey values; (0, 0) where all of it is uniform."""
    width, height = (_extent(thumbnail, axis) for axis in (0, 1))
    return (width, height) if width and height else (0, 0)


def is_small(shape: tuple[int, int], content: tuple[int, int]) -> bool:
    """Whether content of that width and height is a small part of a picture of that shape."""
    return content[0] * content[1] < MIN_CONTENT_SHARE * shape[0] * shape[1]


def _extent(thumbnail: npt.NDArray[np.uint8], axis: int) -> int:
    """From the first to the last column (axis 0) or row (axis 1) that holds anatomy."""
    ordered = np.sort(thumbnail, axis=axis)
    # The extreme tenths are left out, because a letter burnt into a black border is no anatomy.
    last = ordered.shape[axis] - 1
    low, high = (ordered.take(place, axis=axis).astype(int) for place in (last // 10, last - last // 10))
    places = np.flatnonzero(high - low > _EMPTY_LEVELS)
    return int(np.ptp(places)) + 1 if len(places) else 0
