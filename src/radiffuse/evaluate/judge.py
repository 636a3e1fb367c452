"""The `evaluate` verb: judge samples once and keep the report in the store. Light until something is to judge."""

import logging
import os
from typing import TYPE_CHECKING

from radiffuse.config import EvaluateSettings
from radiffuse.errors import DataError
from radiffuse.evaluate.lineage import trace_lineage
from radiffuse.local_files import scratch_folder
from radiffuse.manifest import Manifest, digest_of

if TYPE_CHECKING:
    from radiffuse.storage import Store

logger = logging.getLogger(__name__)

FORMAT = 2


def evaluate_samples(
    store: "Store",
    run_name: str,
    dataset: Manifest,
    before: Manifest,
    after: Manifest,
    settings: EvaluateSettings,
    external: Manifest | None = None,
) -> Manifest:
    """Judge samples before and after adaptation against the dataset's held-out images; publish the report.

    A report that exists is returned at once. Raises DataError when the dataset's validation or test split cannot
    train or test a classifier for `settings.pathology`.
    """
    roots = {"after": after, "before": before, "dataset": dataset}
    if external is not None:
        roots["external"] = external
    inputs = {role: manifest.uri for role, manifest in roots.items()}
    recorded = settings.model_dump(mode="json")
    digest = digest_of(inputs=inputs, settings=recorded, format=FORMAT)
    uri = f"s3://reports/{run_name}/{digest}"
    found = store.find(uri)
    if found is not None:
        return found

    _require_fitting(store, dataset, before, after)
    _let_threads_sleep()
    from radiffuse.evaluate.assessment import assess
    from radiffuse.evaluate.page import render_page

    report, pictures = assess(store, run_name, roots, settings)
    manifest = Manifest(
        kind="report",
        name=run_name,
        uri=uri,
        digest=digest,
        inputs=inputs,
        settings=recorded,
        counts=report.headline(),
    )
    with scratch_folder("report") as folder:
        (folder / "report.json").write_text(report.model_dump_json(indent=2) + "\n", encoding="utf-8")
        (folder / "report.html").write_text(render_page(report, pictures, uri), encoding="utf-8")
        published = store.publish(manifest, folder, ["report.html", "report.json"])
    accuracy = report.effusion_accuracy
    logger.info("judged accuracy_before=%.3f accuracy_after=%.3f uri=%s", accuracy.before, accuracy.after, uri)
    return published


def _require_fitting(store: "Store", dataset: Manifest, before: Manifest, after: Manifest) -> None:
    """Raise DataError when the pictures differ in size, or before and after have changed places."""
    sizes = {item.uri: item.settings.get("image_size_px") for item in (dataset, before, after)}
    if len(set(sizes.values())) > 1:
        listed = ", ".join(f"{uri} has {size} px" for uri, size in sizes.items())
        raise DataError(f"pictures of different sizes cannot be compared: {listed}; draw or ingest them in one size")
    drawn_before, drawn_after = before.inputs.get("model"), after.inputs.get("model")
    ancestors = {node.uri for node in trace_lineage(store, {"before": before})}
    if drawn_before != drawn_after and drawn_after in ancestors:
        raise DataError(
            f"the model of {before.uri} was adapted from that of {after.uri}; exchange --before and --after"
        )


def _let_threads_sleep() -> None:
    """Have OpenMP's threads wait asleep; it reads this once, when torch is imported.

    Where other work shares the cores, threads that spin while they wait slow everything tenfold.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", "0")
