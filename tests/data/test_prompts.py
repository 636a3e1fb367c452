"""Prompts say what is known of an image and nothing else."""

import pytest

from radiffuse.config import IngestSettings
from radiffuse.data.labels import LABELS
from radiffuse.data.prompts import PLAIN_PROMPT, find_prompt, positive_pathologies, prompt_from_labels
from radiffuse.errors import DataError

EFFUSION_PROMPT = "a photo of a lung xray with a visible pleural effusion"


@pytest.mark.parametrize(
    ("labels", "prompt"),
    [
        ({"No Finding": 1}, "a photo of a lung xray"),
        ({}, "a photo of a lung xray"),
        ({"Pleural Effusion": 0, "Edema": 0}, "a photo of a lung xray"),
        ({"Pleural Effusion": 1}, EFFUSION_PROMPT),
        ({"Pleural Effusion": 1, "Edema": 0}, EFFUSION_PROMPT),
        ({"Pleural Effusion": -1}, "a photo of a lung xray with a possible pleural effusion"),
        ({"No Finding": 1, "Support Devices": 1}, "a photo of a lung xray with visible support devices"),
        (
            {"Cardiomegaly": 1, "Pleural Effusion": 1, "Edema": -1},
            f"{EFFUSION_PROMPT}, visible cardiomegaly and possible edema",
        ),
    ],
)
def test_labels_become_words(labels, prompt):
    assert prompt_from_labels(labels) == prompt


def test_the_side_is_named_beside_other_findings_only():
    both = {"Pleural Effusion": 1, "Edema": 1}
    assert prompt_from_labels({"Pleural Effusion": 1}, "left") == EFFUSION_PROMPT
    assert prompt_from_labels(both, "left") == f"{PLAIN_PROMPT} with a visible left pleural effusion and visible edema"
    assert prompt_from_labels(both, "bilateral").startswith(f"{PLAIN_PROMPT} with visible bilateral pleural effusions")
    assert prompt_from_labels({"Pleural Effusion": -1, "Edema": 1}, "left").count("left") == 0


def test_positive_pathologies_leave_out_no_finding_and_the_uncertain():
    labels = {"No Finding": 1, "Edema": -1, "Pleural Effusion": 1, "Cardiomegaly": 1}
    assert positive_pathologies(labels) == ["Cardiomegaly", "Pleural Effusion"]


def row(report, **labels):
    return {**dict.fromkeys(LABELS), "report": report, **labels}


def wording(tmp_path, report, **settings):
    if report is not None:
        (tmp_path / "s1.txt").write_text(report)
    return find_prompt(row("s1.txt"), tmp_path, IngestSettings(prompt_source="impression", **settings))


def test_an_impression_is_used_as_it_is(tmp_path):
    assert wording(tmp_path, "IMPRESSION: Small left pleural effusion.").prompt == "Small left pleural effusion."


def test_a_heading_that_means_the_same_is_noted(tmp_path):
    assert wording(tmp_path, "CONCLUSION: Small left pleural effusion.").note == "impression_under_other_heading"


@pytest.mark.parametrize(
    ("report", "reason"),
    [
        (None, "no_report"),
        ("FINDINGS: Clear.", "no_impression"),
        ("IMPRESSION: Clear.", "impression_length"),
        ("IMPRESSION: " + "very " * 76 + "clear.", "impression_length"),
    ],
    ids=["no-report", "no-impression", "short", "long"],
)
def test_a_report_without_a_fitting_impression_gives_no_prompt(tmp_path, report, reason):
    assert wording(tmp_path, report).reason == reason


def test_limits_can_count_characters(tmp_path):
    report = "IMPRESSION: Clear lungs."
    assert wording(tmp_path, report, impression_length_unit="characters").prompt == "Clear lungs."
    assert wording(tmp_path, report, impression_length_unit="characters", impression_max_length=11).prompt is None


def test_the_side_comes_from_the_report_where_there_are_other_findings(tmp_path):
    (tmp_path / "s1.txt").write_text(
        "FINDINGS: Right pleural effusion. Edema.\nIMPRESSION: Pleural effusion and edema."
    )
    labels = {"Pleural Effusion": 1, "Edema": 1}
    found = find_prompt(row("s1.txt", **labels), tmp_path, IngestSettings())
    assert found.prompt == f"{PLAIN_PROMPT} with a visible right pleural effusion and visible edema"
    absent = find_prompt(row("s2.txt", **labels), tmp_path, IngestSettings())
    assert absent.prompt == f"{EFFUSION_PROMPT} and visible edema"


def test_a_disk_that_fails_is_an_error_without_the_report_s_name(tmp_path):
    (tmp_path / "s1.txt").symlink_to("/proc/self/mem")  # a file whose first byte nobody can read
    with pytest.raises(DataError, match=rf"a report below {tmp_path} cannot be read: Input/output error") as caught:
        find_prompt(row("s1.txt"), tmp_path, IngestSettings(prompt_source="impression"))
    assert "s1.txt" not in str(caught.value)
