"""Figures as people read them."""

from typing import Any


def percent(share: float) -> str:
    """99.5 %, and 100 % without decimals."""
    return f"{100 * share:.1f}".removesuffix(".0") + "\N{NARROW NO-BREAK SPACE}%"


def plain(value: float) -> str:
    """Three significant digits, never an exponent."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:#.3g}"


def grouped(value: Any) -> str:
    """A count with thin spaces between thousands; other values as they are."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    text = f"{value:,}" if isinstance(value, int) else f"{value:,.6g}"
    return text.replace(",", "\N{NARROW NO-BREAK SPACE}")
