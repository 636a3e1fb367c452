"""Sections of reports, and what they say of an effusion."""

import pytest

from radiffuse.data.reports import clean_text, count_tokens, find_effusion_side, find_impression, find_sections

REPORT = """                                 FINAL REPORT
 EXAMINATION:  CHEST (PA AND LAT)

 INDICATION:  ___F with cough, AP and PA

 COMPARISON:  ___.

 FINDINGS:

 PA and lateral views were obtained.  In comparison with the study of ___,
 there is a small left
 pleural effusion.  Heart: normal size.

 IMPRESSION:

 1.  Small left pleural effusion.
 2.  No pneumothorax, as discussed with Dr. ___ at 10:30
 a.m. on ___, ___.
"""


def test_sections_are_found_by_their_headings():
    sections = find_sections(REPORT)
    assert list(sections) == ["examination", "indication", "findings", "impression"]
    assert sections["findings"] == (
        "PA and lateral views were obtained. In comparison with the study of, there is a small left pleural effusion. "
        "Heart: normal size."
    )


def test_the_impression_is_one_line_without_marks_and_without_glued_words():
    assert find_impression(REPORT) == (
        "1. Small left pleural effusion. 2. No pneumothorax, as discussed with Dr. at 10:30 a.m. on.",
        "impression",
    )


@pytest.mark.parametrize(
    ("report", "expected"),
    [
        ("IMPRESSION: Clear lungs.", ("Clear lungs.", "impression")),
        ("Impression:\nClear\nlungs.", ("Clear lungs.", "impression")),
        ("IMPRESSION\nClear lungs.", ("Clear lungs.", "impression")),
        ("IMPRESSION - Clear lungs.", ("Clear lungs.", "impression")),
        ("IMPRESSIONS: Clear lungs.\nRECOMMENDATION(S): None.", ("Clear lungs.", "impression")),
        ("IMPRESION: Clear lungs.", ("Clear lungs.", "impression")),
        ("CONCLUSION: Clear lungs.", ("Clear lungs.", "other_heading")),
        ("FINDINGS AND IMPRESSION: Clear lungs.", ("Clear lungs.", "other_heading")),
        ("CONCLUSION: Old.\nIMPRESSION: Clear lungs.", ("Clear lungs.", "impression")),
        ("ADDENDUM\n IMPRESSION: Old.\n FINAL REPORT\n IMPRESSION: Clear lungs.", ("Clear lungs.", "impression")),
        ("IMPRESSION: Clear lungs.\r\n NOTIFICATION:  By phone.\r\n", ("Clear lungs.", "impression")),
        ("IMPRESSION:\n\nFINDINGS: Clear lungs.", None),
        ("IMPRESSION: ___.\nFINDINGS: Clear lungs.", None),
        ("The impression is: clear lungs.", None),
        ("", None),
    ],
)
def test_headings_come_in_several_wordings(report, expected):
    assert find_impression(report) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("in___place", "in place"),
        ("a ___-year-old man", "a year-old man"),
        ("___'s device", "device"),
        ("seen by Dr. ___ (___) today", "seen by Dr. today"),
        ("on ___, ___.", "on."),
        ("___: stable", "stable"),
        ("two  spaces\tand\na line", "two spaces and a line"),
        ("untouched , spacing .", "untouched , spacing ."),
        ("______________", ""),
    ],
)
def test_marks_go_and_words_stay_apart(text, expected):
    assert clean_text(text) == expected


def test_tokens_are_words_digits_and_punctuation_between_two_ends():
    assert count_tokens("") == 2
    assert count_tokens("No acute cardiopulmonary process.") == 7
    assert count_tokens("It's 10 cm -- T11") == 2 + len(["It", "'s", "1", "0", "cm", "--", "T", "1", "1"])


@pytest.mark.parametrize(
    ("text", "side"),
    [
        ("Small left pleural effusion.", "left"),
        ("There is a large right-sided pleural effusion with atelectasis at the left base.", "right"),
        ("Bilateral pleural effusions, left greater than right.", "bilateral"),
        ("Small left and moderate right pleural effusions.", "bilateral"),
        ("Left effusion has grown. Right effusion is unchanged.", "bilateral"),
        ("No left pleural effusion. Small right effusion.", "right"),
        ("No pleural effusion.", None),
        ("The right effusion has resolved.", None),
        ("Pleural effusion.", None),
        ("Effusion, left or right.", None),
        ("Left lower lobe consolidation.", None),
        ("Left and right lung bases hide an effusion.", None),
    ],
)
def test_the_side_of_an_effusion_is_read_where_it_is_plain(text, side):
    assert find_effusion_side(text) == side
