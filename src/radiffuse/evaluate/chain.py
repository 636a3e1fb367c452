"""The chain of provenance in words: what each output is called, what it was made from, its settings as lines."""

import json
from dataclasses import dataclass
from typing import Any

from radiffuse.evaluate.lineage import ProvenanceNode
from radiffuse.evaluate.report import Report

TITLES = {
    "dataset": "Images and prompts",
    "latents": "Latents of the training images",
    "checkpoint": "Checkpoint",
    "missing": "No longer in the store",
    "report": "Report",
}
ROLES = {"after": "Samples after adaptation", "before": "Samples before adaptation", "external": "Second dataset"}


@dataclass(frozen=True)
class Source:
    """What an output was made from: a link within the page, or a mere name."""

    title: str
    anchor: str | None


@dataclass(frozen=True)
class Link:
    """One output of the chain as the page shows it."""

    anchor: str
    title: str
    name: str
    uri: str
    counts: dict[str, int | float]
    sources: tuple[Source, ...]
    code_version: str
    settings: dict[str, str]


def describe_chain(report: Report, uri: str) -> tuple[Link, ...]:
    """The report itself, then everything behind it, users first."""
    known = {node.uri: (f"origin-{number}", _title(node)) for number, node in enumerate(report.provenance)}
    roots = [node for node in report.provenance if node.role in (*ROLES, "dataset")]
    head = Link(
        anchor="origin-report",
        title="This report",
        name=report.name,
        uri=uri,
        counts={},
        sources=tuple(Source(known[node.uri][1], known[node.uri][0]) for node in roots),
        code_version=report.code_version,
        settings=flatten(report.settings),
    )
    return (head, *(_link(node, known) for node in report.provenance))


def _link(node: ProvenanceNode, known: dict[str, tuple[str, str]]) -> Link:
    sources = [
        Source(known[value][1], known[value][0]) if value in known else Source(f"{role} {value}", None)
        for role, value in node.inputs.items()
    ]
    anchor, title = known[node.uri]
    counts = {name.replace("_", " "): count for name, count in node.counts.items()}
    return Link(anchor, title, node.name, node.uri, counts, tuple(sources), node.code_version, flatten(node.settings))


def _title(node: ProvenanceNode) -> str:
    if node.role in ROLES and node.kind != "missing":
        return ROLES[node.role]
    if node.kind == "model":
        return "Adapted model" if "data" in node.inputs else "Base model"
    return TITLES.get(node.kind, node.kind)


def flatten(settings: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings as dotted names and short values."""
    lines: dict[str, str] = {}
    for name, value in settings.items():
        if isinstance(value, dict):
            lines |= flatten(value, f"{prefix}{name}.")
        else:
            lines[prefix + name] = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return lines
