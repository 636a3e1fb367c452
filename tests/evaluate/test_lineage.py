"""Provenance: from samples back to the data, on a real store."""

from radiffuse.evaluate.lineage import trace_lineage
from radiffuse.manifest import Manifest
from radiffuse.storage import Store


def committed(store: Store, kind: str, name: str, **inputs: str) -> Manifest:
    bucket = {"dataset": "datasets", "latents": "datasets", "model": "models", "samples": "samples"}[kind]
    uri = f"s3://{bucket}/lineage-{name}/0"
    manifest = Manifest(kind=kind, name=name, uri=uri, digest=name, inputs=inputs, settings={"seed": 1})
    store.commit(manifest)
    return manifest


def test_everything_behind_a_report_comes_once_and_after_what_was_made_from_it(store: Store) -> None:
    dataset = committed(store, "dataset", "images", table="sha256:0")
    base = committed(store, "model", "base", origin="radiffuse:tiny")
    latents = committed(store, "latents", "latents", dataset=dataset.uri, model=base.uri)
    adapted = committed(store, "model", "adapted", model=base.uri, data=latents.uri)
    before = committed(store, "samples", "before", model=base.uri)
    after = committed(store, "samples", "after", model=adapted.uri)
    nodes = trace_lineage(store, {"after": after, "before": before, "dataset": dataset})
    places = {node.uri: place for place, node in enumerate(nodes)}
    assert len(places) == len(nodes) == 6
    for node in nodes:
        assert all(places[uri] > places[node.uri] for uri in node.inputs.values() if uri in places)


def test_what_the_store_no_longer_has_is_said_to_be_missing(store: Store) -> None:
    samples = committed(store, "samples", "orphans", model="s3://models/gone/0")
    (_, missing) = trace_lineage(store, {"after": samples})
    assert (missing.kind, missing.uri) == ("missing", "s3://models/gone/0")
