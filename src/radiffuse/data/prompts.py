"""Synthetic prompts from labels, in the wording of Chambon et al. 2022 (arXiv:2210.04133)."""

from collections.abc import Mapping
from typing import Literal

from radiffuse.data.labels import LABELS, PLEURAL_EFFUSION

PLAIN_PROMPT = "a photo of a lung xray"

Side = Literal["left", "right", "bilateral"]

# {} becomes visible or possible.
_PHRASES = {
    PLEURAL_EFFUSION: "a {} pleural effusion",
    "Enlarged Cardiomediastinum": "{} enlargement of the cardiomediastinum",
    "Cardiomegaly": "{} cardiomegaly",
    "Lung Opacity": "a {} lung opacity",
    "Lung Lesion": "a {} lung lesion",
    "Edema": "{} edema",
    "Consolidation": "a {} consolidation",
    "Pneumonia": "{} pneumonia",
    "Atelectasis": "{} atelectasis",
    "Pneumothorax": "a {} pneumothorax",
    "Pleural Other": "a {} pleural abnormality",
    "Fracture": "a {} fracture",
    "Support Devices": "{} support devices",
}
_SIDED: dict[Side, str] = {
    "left": "a visible left pleural effusion",
    "right": "a visible right pleural effusion",
    "bilateral": "visible bilateral pleural effusions",
}


def prompt_from_labels(labels: Mapping[str, int | None], side: Side | None = None) -> str:
    """A prompt that says what the labels say, the effusion first.

    Args:
        labels: CheXpert name -> 1, 0, -1 or None. Positive findings are "visible", uncertain ones "possible"; negative
            ones and those not mentioned are left out, so a normal image gets PLAIN_PROMPT.
        side: Where the effusion lies, when it is known. An effusion that is the only finding is named without it: the
            few-shot prompts of the paper have no side, and these images are what teaches them.
    """
    named = {name: value for name in _PHRASES if (value := labels.get(name)) in (1, -1)}
    findings = [_PHRASES[name].format("visible" if value == 1 else "possible") for name, value in named.items()]
    if side is not None and len(named) > 1 and labels.get(PLEURAL_EFFUSION) == 1:
        findings[0] = _SIDED[side]
    if not findings:
        return PLAIN_PROMPT
    *others, last = findings
    return f"{PLAIN_PROMPT} with {', '.join(others)} and {last}" if others else f"{PLAIN_PROMPT} with {last}"


def positive_pathologies(labels: Mapping[str, int | None]) -> list[str]:
    """CheXpert names of the labels that are 1, in CheXpert's order, without No Finding."""
    return [name for name in LABELS[1:] if labels.get(name) == 1]
