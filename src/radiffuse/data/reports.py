"""Radiology reports: sections by their headings, de-identification marks stripped, and what they say of an effusion."""

import re
from typing import Literal

# A heading opens a line and ends in a colon: capitals, or a known name in any case; a known name may stand alone.
_KNOWN = (
    r"findings?(?:[ ]?(?:and|/)[ ]?impressions?)?|impr?es+s?ions?|conclusions?|opinion|summary|indications?|technique|"
    r"comparisons?|history|clinical history|examination|exam|recommendations?(?:\(s\))?|notifications?|addendum"
)
_HEADING = re.compile(
    rf"^[ \t]*(?:(?P<known>(?i:{_KNOWN}))[ \t]*(?::|-[ \t]|$)|(?P<capitals>[A-Z][A-Z ()/,&'-]{{2,60}}):)", re.MULTILINE
)
_MARK = re.compile(r"_{2,}(?:['’]s\b|-(?=\w))?")
_TOKEN = re.compile(r"'(?:s|t|re|ve|m|ll|d)\b|[^\W\d_]+|\d|(?:[^\w\s]|_)+", re.IGNORECASE)
_NEGATION = re.compile(r"\b(?:no|not|without|resolved|resolution|negative|free|clear|absence|rather)\b")
_SIDE = re.compile(r"\b(?:left|right)\b")

Origin = Literal["impression", "other_heading"]
Side = Literal["left", "right", "bilateral"]


def find_sections(report: str) -> dict[str, str]:
    """Heading in lower case -> its text, clean. Of headings that return (an addendum, then the report) the last counts.

    Text before the first heading has no name and is left out; so are sections without text.
    """
    headings = list(_HEADING.finditer(report))
    ends = [heading.start() for heading in headings[1:]] + [len(report)]
    sections = {}
    for heading, end in zip(headings, ends, strict=False):
        name = heading["known"] if heading["known"] is not None else heading["capitals"]
        if text := clean_text(report[heading.end() : end]):
            sections[" ".join(name.lower().split())] = text
    return sections


def find_impression(report: str) -> tuple[str, Origin] | None:
    """The impression, and whether it stood under its own heading or under one that means the same; None without one."""
    sections = find_sections(report)
    for name, text in sections.items():
        if re.fullmatch(r"impr?es+s?ions?", name):
            return text, "impression"
    for name, text in sections.items():
        if name.startswith(("conclusion", "opinion", "summary")) or name.endswith(("impression", "impressions")):
            return text, "other_heading"
    return None


def clean_text(text: str) -> str:
    """One line, with single spaces, without the ___ that stand for what de-identification removed.

    A mark becomes a space, so words are never glued together, and punctuation that it leaves alone goes with it.
    """
    if "__" in text:
        text = _MARK.sub(" ", text)
        text = re.sub(r"\(\s*\)", " ", text)
        text = re.sub(r"\s+(?=[.,;:)])", "", text)
        text = re.sub(r"[,;:]+(?=[,;:.])", "", text)
        text = re.sub(r"^[\s.,;:]+", "", text)
    return " ".join(text.split())


def count_tokens(text: str) -> int:
    """Words, digits and runs of punctuation, plus start and end: what CLIP's tokenizer makes at the least."""
    return len(_TOKEN.findall(text)) + 2


def find_effusion_side(text: str) -> Side | None:
    """The side of a pleural effusion that the text asserts; None when it asserts none or does not say clearly."""
    sides = {side for clause in re.split(r"[.;]\s|,\s|\bbut\b|\bwith\b", text.lower()) for side in _sides(clause)}
    if not sides or "unclear" in sides:
        return None
    if sides == {"left"} or sides == {"right"}:
        return "left" if "left" in sides else "right"
    return "bilateral"


def _sides(clause: str) -> set[str]:
    """Sides of the effusion in one clause; "unclear" when both sides are named and one effusion."""
    if "effusion" not in clause or _NEGATION.search(clause):
        return set()
    if re.search(r"\bbilateral|\bboth\b", clause):
        return {"left", "right"}
    sides = set(_SIDE.findall(clause))
    return {"unclear"} if len(sides) == 2 and "effusions" not in clause else sides
