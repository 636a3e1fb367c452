"""Reports of simulated studies: FINDINGS and IMPRESSION in several wordings, true to what was rendered."""

import numpy as np
from numpy.random import Generator

from radiffuse.data.patient import Study

MARK = "___"  # MIMIC-CXR's de-identification mark

_DENIALS = {
    "Pleural Effusion": ("There is no pleural effusion.", "No effusion is seen.", "No pleural fluid."),
    "Pneumothorax": ("There is no pneumothorax.", "No pneumothorax is identified."),
    "Consolidation": ("No focal consolidation.", "The lungs are free of consolidation."),
    "Cardiomegaly": ("The heart is not enlarged.", "Heart size is within normal limits."),
    "Edema": ("There is no pulmonary edema.", "No vascular congestion or edema."),
}
_NORMAL = (
    "No acute cardiopulmonary process.",
    "No acute cardiopulmonary abnormality.",
    "Normal chest radiograph.",
    "No evidence of acute disease in the chest.",
    "No acute intrathoracic process.",
)
_DEVICES = {
    "central line": ("A right-sided central venous catheter ends in the superior vena cava.",),
    "pacemaker": ("A left-sided pacemaker has its lead in the right ventricle.",),
    "electrodes": ("Monitoring leads overlie the chest.",),
}
_SIZE_WORDS = {"small": ("small",), "moderate": ("moderate", "moderate-sized"), "large": ("large", "sizeable")}
_WORDINGS = {
    "consolidation": (
        "There is consolidation in the {lobe}.",
        "Focal consolidation of the {lobe}.",
        "Dense {lobe} consolidation.",
    ),
    "pneumonia": (
        "Faint opacity in the {lobe} could represent pneumonia.",
        "Subtle {lobe} opacity, possibly pneumonia.",
    ),
    "pneumothorax": ("There is a {size} {side} pneumothorax.", "{Size} {side}-sided pneumothorax."),
    "cardiomegaly": ("There is cardiomegaly.", "The heart is enlarged.", "Cardiomegaly is present."),
    "perhaps cardiomegaly": ("The heart may be mildly enlarged.", "Possible mild cardiomegaly."),
}
_COMPARISONS = ("None.", f"{MARK}.", f"Chest radiograph of {MARK}.", "No prior available.")
_INDICATIONS = ("Shortness of breath.", "Chest pain.", f"{MARK} with cough.", f"{MARK} year old, dyspnea.", "Fever.")


def compose_sections(study: Study) -> tuple[str, str]:
    """(FINDINGS, IMPRESSION) of a study."""
    rng = np.random.default_rng(study.wording_seed)
    positives = describe_positives(rng, study)
    denials = [_pick(rng, _DENIALS[name]) for name in study.negatives]
    devices = [] if study.device_name is None else [_pick(rng, _DEVICES[study.device_name])]
    fillers = ["The lungs are well expanded."] if not positives and rng.random() < 0.5 else []
    if rng.random() < 0.15:
        fillers.append(f"In comparison with the study of {MARK}, there is little change.")
    findings = [*devices, *positives, *fillers, *denials]
    if not findings:
        findings = ["The cardiomediastinal silhouette and hila are normal."]
    impression = describe_positives(rng, study) if positives else [_pick(rng, _NORMAL)]
    return " ".join(findings), _impression_text(rng, impression)


def compose_report(study: Study) -> str:
    """The whole report, laid out as MIMIC-CXR's are."""
    rng = np.random.default_rng([study.wording_seed, 1])
    findings, impression = compose_sections(study)
    head = f"{'FINAL REPORT':>45}\n EXAMINATION:  {name_examination(study)}\n \n"
    head += f" INDICATION:  {_pick(rng, _INDICATIONS)}\n \n"
    comparison = f" COMPARISON:  {_pick(rng, _COMPARISONS)}\n \n"
    return f"{head}{comparison} FINDINGS: \n \n{_wrap(findings)}\n \n IMPRESSION: \n \n{_wrap(impression)}\n"


def name_examination(study: Study) -> str:
    """The procedure's name, by the views that were taken."""
    frontal, *lateral = (image.view for image in study.images)
    if lateral:
        return f"CHEST ({frontal} AND LAT)"
    return "CHEST (PORTABLE AP)" if frontal == "AP" else "CHEST (PA)"


def describe_positives(rng: Generator, study: Study) -> list[str]:
    """One sentence for each finding that was rendered."""
    condition = study.condition
    sentences = [_pick(rng, _effusion_wordings(rng, study.sizes))] if study.sizes else []
    for patch in condition.consolidations:
        key = "pneumonia" if "Pneumonia" in study.labels else "consolidation"
        sentences.append(_pick(rng, _WORDINGS[key]).format(lobe=patch.lobe))
    if condition.pneumothorax is not None:
        size = "moderate" if condition.pneumothorax.depth_mm < 38 else "large"
        wording = _pick(rng, _WORDINGS["pneumothorax"])
        sentences.append(wording.format(size=size, Size=size.capitalize(), side=condition.pneumothorax.side))
    if condition.heart_growth_mm > 0:
        key = "cardiomegaly" if study.labels.get("Cardiomegaly") == 1.0 else "perhaps cardiomegaly"
        sentences.append(_pick(rng, _WORDINGS[key]))
    return sentences


def _effusion_wordings(rng: Generator, sizes: dict[str, str]) -> tuple[str, ...]:
    (side, size), *others = sizes.items()
    if size == "trace":
        return (f"A trace {side} pleural effusion cannot be excluded.", f"Possible trace {side} pleural effusion.")
    word = _pick(rng, _SIZE_WORDS[size])
    if not others:
        return (
            f"A {word} {side} pleural effusion is present.",
            f"There is a {word} {side} pleural effusion.",
            f"{word.capitalize()} {side}-sided pleural effusion.",
            f"{word.capitalize()} {side} pleural effusion with obscuration of the {side} hemidiaphragm.",
        )
    other_side, other_size = others[0]
    if other_size == size:
        return (f"{word.capitalize()} bilateral pleural effusions.", f"There are bilateral {word} pleural effusions.")
    return (
        f"Bilateral pleural effusions, {word} on the {side} and {other_size} on the {other_side}.",
        f"{word.capitalize()} {side} and {other_size} {other_side} pleural effusions.",
    )


def _impression_text(rng: Generator, sentences: list[str]) -> str:
    if len(sentences) > 1 and rng.random() < 0.5:
        return " ".join(f"{number}. {sentence}" for number, sentence in enumerate(sentences, start=1))
    return " ".join(sentences)


def _pick(rng: Generator, wordings: tuple[str, ...]) -> str:
    return wordings[int(rng.integers(len(wordings)))]


def _wrap(text: str, width: int = 78) -> str:
    """Lines of that width, each after one blank, as in the published files."""
    lines, line = [], ""
    for word in text.split():
        if line and len(line) + 1 + len(word) > width:
            lines.append(f" {line}")
            line = word
        else:
            line = f"{line} {word}" if line else word
    return "\n".join([*lines, f" {line}"])
