"""Projection and findings, each seen in the pixels it must change."""

import numpy as np
import pytest
from numpy.typing import NDArray

from radiffuse.data import radiograph
from radiffuse.data.anatomy import Stack, load_stack
from radiffuse.data.overlay import Stroke, stroke_mask
from radiffuse.data.pathology import Condition, Consolidation, Effusion, Pneumothorax, Side
from radiffuse.data.radiograph import Exposure, Habitus, Pose
from radiffuse.errors import DataError

SIZE_PX = 64
HEALTHY = Condition()
UPRIGHT = Pose()
CLEAN = Exposure(noise=0)


@pytest.fixture(scope="module")
def frontal() -> Stack:
    try:
        return load_stack(SIZE_PX, "frontal")
    except DataError as error:
        pytest.skip(f"the chest CT is not in the cache and cannot be fetched here: {error}")


def draw(stack: Stack, condition: Condition = HEALTHY, view: str = "PA", pose: Pose = UPRIGHT) -> NDArray[np.float32]:
    image = radiograph.render(stack, view, SIZE_PX, condition, Habitus(), pose, CLEAN)
    assert image.shape == (SIZE_PX, SIZE_PX)
    assert image.dtype == np.uint8
    return image.astype(np.float32)


def halves(image: NDArray[np.float32]) -> dict[str, float]:
    """Mean grey of the lower lung on each of the patient's sides, as displayed."""
    band = image[26:42]
    return {"right": float(band[:, 8:26].mean()), "left": float(band[:, 40:58].mean())}


def test_the_heart_points_to_the_right_of_the_image(frontal: Stack) -> None:
    image = draw(frontal)
    level = image[28:34]

    assert level[:, 38:44].mean() > level[:, 20:26].mean() + 40


def test_the_heart_is_larger_in_ap_than_in_pa(frontal: Stack) -> None:
    """It lies in front: far from the detector, near the tube, when the back is on the detector."""
    front = np.zeros_like(frontal.soft)
    front[frontal.depth_mm > 40, :, :] = (np.abs(frontal.u_mm) < 50).astype(np.float32)
    grid_mm = np.linspace(-100, 100, 201, dtype=np.float32)
    width = {
        view: (radiograph.project(front, frontal, grid_mm, view, Habitus(), Pose())[100] > 20).sum()
        for view in ("AP", "PA")
    }

    assert width["AP"] > width["PA"] + 5


def test_a_projection_adds_up_what_lies_along_the_beam(frontal: Stack) -> None:
    grid_mm = np.linspace(-30, 30, 13, dtype=np.float32)
    volume = np.ones_like(frontal.soft)

    path_mm = radiograph.project(volume, frontal, grid_mm, "PA", Habitus(), Pose(pitch=2, yaw=-2))

    thickness = len(frontal.depth_mm) * (frontal.depth_mm[1] - frontal.depth_mm[0])
    np.testing.assert_allclose(path_mm, thickness, rtol=1e-4)


@pytest.mark.parametrize("side", ["left", "right"])
def test_an_effusion_whitens_its_own_side(frontal: Stack, side: Side) -> None:
    other = "left" if side == "right" else "right"
    without, with_fluid = halves(draw(frontal)), halves(draw(frontal, Condition(effusions=(Effusion(side, 110),))))

    assert with_fluid[side] > without[side] + 40
    assert abs(with_fluid[other] - without[other]) < 15


def test_more_fluid_whitens_more(frontal: Stack) -> None:
    grey = [
        halves(draw(frontal, Condition(effusions=(Effusion("left", height),))))["left"] for height in (0, 70, 100, 140)
    ]

    assert grey == sorted(grey)


def test_the_meniscus_rises_along_the_wall(frontal: Stack) -> None:
    fluid = Condition(effusions=(Effusion("right", 90, meniscus_mm=60, meniscus_reach_mm=15),))
    gain = draw(frontal, fluid) - draw(frontal)
    level = gain[30:33]

    assert level[:, 10:12].mean() > level[:, 16:24].mean() + 15


def test_a_pneumothorax_darkens_the_edge_of_its_lung(frontal: Stack) -> None:
    gain = draw(frontal, Condition(pneumothorax=Pneumothorax("left", 45))) - draw(frontal)

    assert gain[8:26, 48:56].mean() < -3
    assert abs(gain[8:26, 8:26].mean()) < 3


def test_a_consolidation_whitens_a_patch_of_its_lobe(frontal: Stack) -> None:
    patch = Consolidation("right upper lobe", 0.5, radius_mm=40, strength=0.9, texture_seed=3)
    gain = draw(frontal, Condition(consolidations=(patch,))) - draw(frontal)

    assert gain[:32, :32].max() > 30
    assert np.abs(gain[:, 40:]).mean() < 8


def test_cardiomegaly_widens_the_heart(frontal: Stack) -> None:
    gain = draw(frontal, Condition(heart_growth_mm=22)) - draw(frontal)

    assert gain[34:42, 40:52].mean() > 10
    assert abs(gain[:18].mean()) < 5


def test_roll_turns_the_image(frontal: Stack) -> None:
    upright, rolled = draw(frontal), draw(frontal, pose=Pose(roll=5))

    assert np.abs(upright - rolled).mean() > 3


def test_lateral_images_show_the_front_on_the_left() -> None:
    try:
        stack = load_stack(SIZE_PX, "lateral")
    except DataError as error:
        pytest.skip(f"the chest CT is not in the cache and cannot be fetched here: {error}")
    plate = np.zeros_like(stack.soft)
    plate[:, :, stack.u_mm > 60] = 1
    grid_mm = np.linspace(-120, 120, 49, dtype=np.float32)

    path_mm = radiograph.project(plate, stack, grid_mm, "LATERAL", Habitus(), Pose())

    assert path_mm[24, :10].max() > 100
    assert path_mm[24, 30:].max() < 1


def test_a_film_of_nothing_but_air_is_still_an_image() -> None:
    grey = radiograph.develop(np.zeros((32, 32), dtype=np.float32), Exposure())

    assert np.isfinite(grey).all()


def test_noise_depends_on_the_seed_alone() -> None:
    path_mm = np.full((32, 32), 100, dtype=np.float32)
    path_mm[8:24, 8:24] = 200

    first, again = (radiograph.develop(path_mm, Exposure(noise=0.02, seed=4)) for _ in range(2))
    other = radiograph.develop(path_mm, Exposure(noise=0.02, seed=5))

    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.01


def test_a_stroke_covers_its_line_and_nothing_else() -> None:
    mask = stroke_mask(64, Stroke(((-50.0, 0.0), (50.0, 0.0)), 6.0))

    assert mask[31:33, 25:40].min() > 0.9
    assert mask[:26].max() == 0
