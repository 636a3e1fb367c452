"""Blank and unusually cropped pictures, judged from grey values alone."""

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


def is_blank(content: npt.NDArray[np.uint8]) -> bool:
    """Whether (H, W) grey values hold nothing at all."""
    return not _occupied(content, 0).any()


def is_cropped(content: npt.NDArray[np.uint8]) -> bool:
    """Whether the part of (H, W) grey values that is not a uniform border is small or oddly shaped."""
    height, width = (int(np.ptp(np.flatnonzero(_occupied(content, axis)))) + 1 for axis in (1, 0))
    return is_odd_shape(width, height) or width * height < MIN_CONTENT_SHARE * content.size


def _occupied(content: npt.NDArray[np.uint8], axis: int) -> npt.NDArray[np.bool_]:
    # Percentiles, because a letter burnt into a black border is no anatomy.
    low, high = np.percentile(content, (5, 95), axis=axis)
    occupied: npt.NDArray[np.bool_] = high - low > _EMPTY_LEVELS
    return occupied
