"""Rules, dashboard and the page about them, as generated files."""

from collections.abc import Iterator
from pathlib import Path

from charts.watching.dashboard import dashboard_file
from charts.watching.page import metrics_page
from charts.watching.rules import rules_file

FILES = Path("charts") / "radiffuse" / "files"


def generated_files() -> Iterator[tuple[Path, str]]:
    """Path below the repository's root, and text, of each."""
    yield FILES / "rules.yaml", rules_file()
    yield FILES / "dashboard.json", dashboard_file()
    yield Path("docs") / "metrics.md", metrics_page()
