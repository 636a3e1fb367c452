"""Who is in the simulated cohort: each patient's body, findings, studies and images, from (seed, number) alone."""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from radiffuse.data import overlay
from radiffuse.data.anatomy import LOBES
from radiffuse.data.overlay import Stroke
from radiffuse.data.pathology import Condition, Consolidation, Effusion, Pneumothorax, Side
from radiffuse.data.radiograph import WARP_KNOTS, Exposure, Habitus, Pose

# Share of studies by what they show. The first two are what an effusion-conditioned model learns from; the rest is
# what ingest has to leave out of them.
KINDS = {
    "no_finding": 0.47,
    "effusion": 0.41,
    "cardiomegaly": 0.025,
    "consolidation": 0.025,
    "pneumothorax": 0.02,
    "effusion_and_more": 0.025,
    "uncertain": 0.025,
}
# Fluid levels above the lung's lowest point in millimetres. The right lung reaches 27 mm deeper behind the liver, so
# the same visible amount stands higher there; the least of each is clearly visible in a frontal view of every pose.
EFFUSION_MM: dict[str, dict[Side, tuple[float, float]]] = {
    "small": {"right": (78, 96), "left": (62, 80)},
    "moderate": {"right": (96, 124), "left": (80, 108)},
    "large": {"right": (124, 168), "left": (108, 148)},
}
TRACE_MM: dict[Side, tuple[float, float]] = {"right": (42, 54), "left": (30, 40)}  # hidden behind the diaphragm
DEFECTS = ("cropped", "coloured", "truncated")
DEFECT_PROB = 0.01  # of each defect, per image


@dataclass(frozen=True)
class ImagePlan:
    """One image of a study: view is PA, AP or LATERAL; defect is None or one of DEFECTS."""

    view: str
    pose: Pose
    exposure: Exposure
    marker: tuple[Stroke, ...]
    defect: str | None
    defect_place: float


@dataclass(frozen=True)
class Study:
    """One visit. sizes: effusions' by side. negatives: findings that the report denies. labels: CheXpert's, sparse."""

    kind: str
    condition: Condition
    sizes: dict[str, str]
    devices: tuple[Stroke, ...]
    device_name: str | None
    negatives: tuple[str, ...]
    labels: dict[str, float]
    images: tuple[ImagePlan, ...]
    wording_seed: int


@dataclass(frozen=True)
class Patient:
    """number counts from 1."""

    number: int
    sex: str
    age: int
    habitus: Habitus
    studies: tuple[Study, ...]


def draw_patient(seed: int, number: int) -> Patient:
    """The patient of that number, the same whatever the size, layout and number of the others."""
    rng = np.random.default_rng([seed, number])
    sex = str(rng.choice(["Female", "Male"]))
    age = int(np.clip(rng.normal(60, 17), 18, 90))
    habitus = _draw_habitus(rng, sex, age)
    visits = 2 if rng.random() < 0.08 else 1
    return Patient(number, sex, age, habitus, tuple(_draw_study(rng) for _ in range(visits)))


def _draw_habitus(rng: Generator, sex: str, age: int) -> Habitus:
    warp = np.clip(rng.normal(0, 5.5, (2, WARP_KNOTS, WARP_KNOTS)), -12, 12)
    return Habitus(
        width=float(rng.uniform(0.93, 1.07)),
        height=float(rng.uniform(0.93, 1.07)),
        soft_tissue=float(rng.uniform(0.92, 1.12)),
        bone=float(rng.uniform(1.0, 1.5) - 0.004 * max(age - 60, 0)),
        lung_haze=float(rng.uniform(0.02, 0.1)),
        breast_mm=float(rng.uniform(5, 34)) if sex == "Female" else 0.0,
        warp_mm=tuple(tuple(tuple(float(value) for value in row) for row in field) for field in warp),
    )


def _draw_study(rng: Generator) -> Study:
    kind = str(rng.choice(list(KINDS), p=list(KINDS.values())))
    condition, sizes, labels = _draw_condition(rng, kind)
    frontal = "PA" if rng.random() < 0.55 else "AP"
    has_device = rng.random() < (0.08 if frontal == "AP" else 0.01)
    device_name, devices = _draw_devices(rng) if has_device else (None, ())
    if device_name is not None:
        labels["Support Devices"] = 1.0
    negatives = _draw_negatives(rng, labels)
    labels.update(dict.fromkeys(negatives, 0.0))
    views = (frontal, "LATERAL") if rng.random() < 0.15 else (frontal,)
    images = tuple(_draw_image(rng, view) for view in views)
    wording_seed = int(rng.integers(2**32))
    return Study(kind, condition, sizes, devices, device_name, negatives, labels, images, wording_seed)


def _draw_condition(rng: Generator, kind: str) -> tuple[Condition, dict[str, str], dict[str, float]]:
    """What is rendered, the effusions' sizes by side, and the labels that are 1 or -1."""
    match kind:
        case "no_finding":
            return Condition(), {}, {"No Finding": 1.0}
        case "effusion":
            return *_draw_effusion(rng), {"Pleural Effusion": 1.0}
        case "cardiomegaly":
            return Condition(heart_growth_mm=float(rng.uniform(14, 26))), {}, {"Cardiomegaly": 1.0}
        case "consolidation":
            return _draw_consolidation(rng, 0.85), {}, {"Consolidation": 1.0, "Lung Opacity": 1.0}
        case "pneumothorax":
            return _draw_pneumothorax(rng), {}, {"Pneumothorax": 1.0}
        case "effusion_and_more":
            return _draw_mixed(rng)
        case _:
            return _draw_uncertain(rng)


def _draw_effusion(rng: Generator) -> tuple[Condition, dict[str, str]]:
    sides: tuple[Side, ...] = (("left",), ("right",), ("left", "right"))[rng.choice(3, p=[0.4, 0.4, 0.2])]
    effusions: list[Effusion] = []
    sizes: dict[str, str] = {}
    for side in sides:
        size = str(rng.choice(["small", "moderate", "large"], p=[0.3, 0.4, 0.3]))
        sizes[side] = size
        effusions.append(_effusion(rng, side, EFFUSION_MM[size][side]))
    shift = 0.0
    if len(sides) == 1 and sizes[sides[0]] == "large":  # a large one pushes the mediastinum away
        shift = float(rng.uniform(2, 9)) * (1 if sides[0] == "right" else -1)
    return Condition(effusions=tuple(effusions), shift_mm=shift), sizes


def _effusion(rng: Generator, side: Side, height_mm: tuple[float, float]) -> Effusion:
    return Effusion(side, float(rng.uniform(*height_mm)), float(rng.uniform(35, 80)), float(rng.uniform(10, 22)))


def _draw_consolidation(rng: Generator, strength: float) -> Condition:
    patch = Consolidation(
        lobe=str(rng.choice(list(LOBES.values()))),
        place=float(rng.random()),
        radius_mm=float(rng.uniform(34, 55)),
        strength=strength * float(rng.uniform(0.8, 1.1)),
        texture_seed=int(rng.integers(2**32)),
    )
    return Condition(consolidations=(patch,))


def _draw_pneumothorax(rng: Generator) -> Condition:
    side: Side = "left" if rng.random() < 0.5 else "right"
    depth = float(rng.uniform(25, 50))
    shift = float(rng.uniform(0, 6)) * (1 if side == "right" else -1)
    return Condition(pneumothorax=Pneumothorax(side, depth), shift_mm=shift)


def _draw_mixed(rng: Generator) -> tuple[Condition, dict[str, str], dict[str, float]]:
    fluid, sizes = _draw_effusion(rng)
    labels = {"Pleural Effusion": 1.0}
    if rng.random() < 0.5:
        labels["Cardiomegaly"] = 1.0
        growth = float(rng.uniform(14, 26))
        return Condition(effusions=fluid.effusions, heart_growth_mm=growth), sizes, labels
    labels |= {"Consolidation": 1.0, "Lung Opacity": 1.0}
    patches = _draw_consolidation(rng, 0.85).consolidations
    return Condition(effusions=fluid.effusions, consolidations=patches), sizes, labels


def _draw_uncertain(rng: Generator) -> tuple[Condition, dict[str, str], dict[str, float]]:
    """Findings at the edge of what can be seen, which a report hedges and CheXpert's labeller marks -1."""
    match int(rng.integers(3)):
        case 0:
            side: Side = "left" if rng.random() < 0.5 else "right"
            fluid = Effusion(side, float(rng.uniform(*TRACE_MM[side])), meniscus_mm=25, meniscus_reach_mm=8)
            return Condition(effusions=(fluid,)), {side: "trace"}, {"Pleural Effusion": -1.0}
        case 1:
            return _draw_consolidation(rng, 0.3), {}, {"Lung Opacity": 1.0, "Pneumonia": -1.0}
        case _:
            return Condition(heart_growth_mm=float(rng.uniform(5, 8))), {}, {"Cardiomegaly": -1.0}


def _draw_devices(rng: Generator) -> tuple[str, tuple[Stroke, ...]]:
    name = str(rng.choice(["central line", "pacemaker", "electrodes"]))
    match name:
        case "central line":
            return name, overlay.draw_line(rng)
        case "pacemaker":
            return name, overlay.draw_pacemaker(rng)
        case _:
            return name, overlay.draw_electrodes(rng)


def _draw_negatives(rng: Generator, labels: dict[str, float]) -> tuple[str, ...]:
    chances = {"Pleural Effusion": 0.6, "Pneumothorax": 0.6, "Consolidation": 0.4, "Cardiomegaly": 0.15, "Edema": 0.2}
    drawn = {name: rng.random() < chance for name, chance in chances.items()}
    return tuple(name for name, is_denied in drawn.items() if is_denied and name not in labels)


def _draw_image(rng: Generator, view: str) -> ImagePlan:
    is_lateral = view == "LATERAL"
    pose = Pose(
        pitch=float(rng.normal(4 if view == "AP" else 0, 2.5)),  # bedside films are taken leaning back
        yaw=float(rng.normal(0, 2.5)),
        roll=float(np.clip(rng.normal(0, 2), -6, 6)),
        shift_mm=(float(rng.normal(0, 5)), float(rng.normal(0, 5))),
        zoom=float(rng.uniform(1.08, 1.22) if is_lateral else rng.uniform(1.0, 1.15)),
    )
    exposure = Exposure(
        scatter=float(rng.uniform(0.1, 0.35)),
        noise=float(rng.uniform(0.002, 0.008)),
        contrast=float(rng.uniform(0.95, 1.3)),
        brightness=float(rng.uniform(-0.12, 0.1)),
        detail=float(rng.uniform(0.25, 0.9)),
        seed=int(rng.integers(2**32)),
    )
    marker = overlay.draw_marker(rng)
    chance = rng.random()
    defect = DEFECTS[int(chance / DEFECT_PROB)] if chance < DEFECT_PROB * len(DEFECTS) else None
    return ImagePlan(view, pose, exposure, () if is_lateral else marker, defect, float(rng.random()))
