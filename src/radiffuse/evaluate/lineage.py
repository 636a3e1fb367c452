"""Where a report comes from: its manifests, followed back through their inputs to the data. Light: no torch."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from radiffuse.manifest import Manifest

if TYPE_CHECKING:
    from radiffuse.storage import Store


class ProvenanceNode(BaseModel):
    """One output that the report depends on."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    role: str = Field(description="What it was to the output that it went into, such as 'model'.")
    kind: str = Field(description="Of its manifest; 'missing' when the store no longer has it.")
    name: str
    uri: str
    digest: str
    code_version: str
    inputs: dict[str, str] = Field(description="Role of each input -> its URI or fingerprint.")
    counts: dict[str, int | float]
    settings: dict[str, Any]


def trace_lineage(store: "Store", roots: dict[str, Manifest]) -> tuple[ProvenanceNode, ...]:
    """Every output behind some roots (role -> manifest), each once and after all that were made from it."""
    nodes: dict[str, ProvenanceNode] = {}
    for role, manifest in roots.items():
        _visit(store, role, manifest.uri, manifest, nodes)
    return tuple(_users_first(nodes.values()))


def _visit(store: "Store", role: str, uri: str, manifest: Manifest | None, nodes: dict[str, ProvenanceNode]) -> None:
    if uri in nodes:
        return
    nodes[uri] = _node(role, uri, manifest)
    for input_role, value in nodes[uri].inputs.items():
        if value.startswith("s3://"):
            _visit(store, input_role, value, store.find(value), nodes)


def _node(role: str, uri: str, manifest: Manifest | None) -> ProvenanceNode:
    if manifest is None:
        name = uri.rsplit("/", 1)[-1]
        return ProvenanceNode(
            role=role, kind="missing", name=name, uri=uri, digest="", code_version="", inputs={}, counts={}, settings={}
        )
    shared = manifest.model_dump(mode="json", include=set(ProvenanceNode.model_fields) - {"role"})
    return ProvenanceNode(role=role, **shared)


def _users_first(nodes: Iterable[ProvenanceNode]) -> list[ProvenanceNode]:
    """Topological order, otherwise as found; addresses are digests of inputs, so there are no cycles."""
    waiting = list(nodes)
    ordered: list[ProvenanceNode] = []
    while waiting:
        needed = {uri for node in waiting for uri in node.inputs.values()}
        ready = [node for node in waiting if node.uri not in needed]
        assert ready, "a cycle among manifests"
        ordered += ready
        waiting = [node for node in waiting if node.uri in needed]
    return ordered
