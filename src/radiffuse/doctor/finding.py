"""What a check finds: a verdict, what was seen, and what to do about it."""

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """How it stands with one thing."""

    ok = "ok"
    warning = "warning"
    """Training works; something about it should be better."""
    failed = "failed"
    """Training does not work, or not with this job."""
    skipped = "skipped"
    """Not looked at, not there to be looked at, or not needed."""


@dataclass(frozen=True)
class Finding:
    """A verdict, what was seen, and what to do; one line each but for the last, which may hold several."""

    verdict: Verdict
    text: str
    fix: str = ""
    is_hidden: bool = False
    """Skipped because the account may not look."""


def ok(text: str) -> Finding:
    """It is as it should be."""
    return Finding(Verdict.ok, text)


def warning(text: str, fix: str) -> Finding:
    """It works, and should be better."""
    return Finding(Verdict.warning, text, fix)


def failed(text: str, fix: str) -> Finding:
    """Training does not work like this."""
    return Finding(Verdict.failed, text, fix)


def skipped(text: str, fix: str = "") -> Finding:
    """Nothing can be said about it, or needs to be."""
    return Finding(Verdict.skipped, text, fix)
