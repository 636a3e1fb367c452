"""The pages say what is true: words quoted as an error's are an error's, and links lead somewhere."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    path
    for folder in (".", "docs", "charts/radiffuse", "components/*", "tests/cluster")
    for path in ROOT.glob(f"{folder}/*.md")
)
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
OF_OTHERS = ("Insufficient nvidia.com/gpu", "ImagePullBackOff")
"""Kubernetes' own words, which job status passes on."""


def test_the_words_that_troubleshooting_quotes_are_those_of_an_error() -> None:
    said = "\n".join(_texts())
    for words in _quoted():
        parts = [part.strip() for part in words.split("…")]
        assert words in OF_OTHERS or all(part in said for part in parts), words


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        if anchor and target.suffix == ".md":
            assert anchor in _anchors(target), link


def _quoted() -> Iterator[str]:
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    for line in page.splitlines():
        if match := re.match(r"\| `(.+?)` \|", line):
            yield match[1]


def _texts() -> Iterator[str]:
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value
            elif isinstance(node, ast.JoinedStr):
                yield "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)


def _anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    headings = HEADING.findall(page.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}
