"""What is written of the chart: values, schema, README, Chart.yaml, and the files that templates read."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from charts.chart_file import chart_file
from charts.readme import readme
from charts.schema import schema_file
from charts.values_file import values_file
from charts.watching import files as watching
from radiffuse.cluster.permissions import DOCTOR_CLUSTER_RIGHTS, DOCTOR_RIGHTS, rights
from radiffuse.config import TrainSettings, load_config, preset_names

ROOT = Path(__file__).resolve().parent.parent
CHART = Path("charts/radiffuse")
COPIES = {"files/init-container.yaml": "manifests/training-operator/init-container.yaml"}
"""In the chart -> in the repository: Helm reads nothing outside of a chart."""


def generated_files() -> Iterator[tuple[Path, str]]:
    """Path below the repository's root, and text, of each; after the pipelines, which are copied as they are."""
    yield CHART / "Chart.yaml", chart_file()
    yield CHART / "values.yaml", values_file()
    yield CHART / "values.schema.json", schema_file()
    yield CHART / "README.md", readme()
    yield CHART / "files" / "rights.yaml", yaml.safe_dump(_rights(), sort_keys=False)
    yield CHART / "files" / "batches.yaml", yaml.safe_dump(_batches(), sort_keys=False)
    yield from watching.generated_files()
    for path, source in _copies().items():
        yield CHART / path, (ROOT / source).read_text(encoding="utf-8")


def _rights() -> dict[str, list[dict[str, Any]]]:
    granted = {"launcher": rights(), "doctor": DOCTOR_RIGHTS, "doctorCluster": DOCTOR_CLUSTER_RIGHTS}
    return {who: [right.rule() for right in each] for who, each in granted.items()}


def _batches() -> dict[str, Any]:
    """How many images each preset learns from at a time, and a document that does not say: they fit some jobs only."""
    presets = {name: _batch(load_config(name).train) for name in preset_names()}
    return {"document": _batch(TrainSettings()), "presets": presets}


def _batch(settings: TrainSettings) -> dict[str, int]:
    return {"total_batch_size": settings.total_batch_size, "train_batch_size": settings.train_batch_size}


def _copies() -> dict[str, str]:
    pipelines = sorted((ROOT / "pipelines").glob("*.yaml"))
    return COPIES | {f"files/pipelines/{path.name}": f"pipelines/{path.name}" for path in pipelines}
