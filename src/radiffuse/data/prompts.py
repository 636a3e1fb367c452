"""Prompts: synthetic ones from labels, in the wording of Chambon et al. 2022 (arXiv:2210.04133), or the impression."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from radiffuse.config import IngestSettings
from radiffuse.data.labels import PATHOLOGIES, PLEURAL_EFFUSION
from radiffuse.data.reports import Side, count_tokens, find_effusion_side, find_impression, find_sections
from radiffuse.errors import DataError
from radiffuse.local_files import is_missing, is_of_one_path, open_regular

PLAIN_PROMPT = "a photo of a lung xray"

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
    return [name for name in PATHOLOGIES if labels.get(name) == 1]


@dataclass(frozen=True)
class Wording:
    """An image's prompt, or the reason why it has none; `note` names a fallback worth counting."""

    prompt: str | None
    reason: str | None = None
    note: str | None = None


class _UnreadableReport(Exception):
    """Not an error: a report is there, and cannot be read."""


def find_prompt(row: Mapping[str, Any], root: Path, settings: IngestSettings) -> Wording:
    """The prompt of one row of the candidates' schema, from its labels or from its report below `root`."""
    if settings.prompt_source == "impression":
        return _impression_of(row, root, settings)
    named = [name for name in PATHOLOGIES if row[name] in (1, -1)]
    wants_side = row["report"] is not None and row[PLEURAL_EFFUSION] == 1 and len(named) > 1
    try:
        report = _read_report(root, row["report"]) if wants_side else None
    except _UnreadableReport:
        return Wording(prompt_from_labels(row), note="report_unreadable")
    return Wording(prompt_from_labels(row, None if report is None else _side_of(report)))


def _impression_of(row: Mapping[str, Any], root: Path, settings: IngestSettings) -> Wording:
    try:
        report = _read_report(root, row["report"])
    except _UnreadableReport:
        return Wording(None, reason="report_unreadable")
    if report is None:
        return Wording(None, reason="no_report")
    found = find_impression(report)
    if found is None:
        return Wording(None, reason="no_impression")
    text, origin = found
    length = len(text) if settings.impression_length_unit == "characters" else count_tokens(text)
    if not settings.impression_min_length <= length <= settings.impression_max_length:
        return Wording(None, reason="impression_length")
    return Wording(text, note=None if origin == "impression" else "impression_under_other_heading")


def _side_of(report: str) -> Side | None:
    """The effusion's side as the impression has it, else the findings."""
    impression = find_impression(report)
    side = None if impression is None else find_effusion_side(impression[0])
    return side if side is not None else find_effusion_side(find_sections(report).get("findings", ""))


def _read_report(root: Path, path: str) -> str | None:
    """The report's text, or None when there is none."""
    try:
        with open_regular(root / path) as file:
            return file.read().decode("utf-8", "replace")
    except OSError as error:
        if is_missing(error):
            return None
        if is_of_one_path(error):
            raise _UnreadableReport from None
        # The file's name holds identifiers, so the folder and the cause must do.
        raise DataError(
            f"a report below {root} cannot be read: {error.strerror}; check the disk or the mount that holds it"
        ) from None
