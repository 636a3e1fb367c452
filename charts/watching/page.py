"""docs/metrics.md: every metric, every series that is computed from them, and every alert with its figures."""

from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric

from charts.watching.alerts import alerts
from charts.watching.others_rows import OTHERS
from charts.watching.recordings import recordings
from charts.watching.rule import RUN_LABELS, RUNBOOK, duration
from charts.watching.thresholds import CHART, Thresholds
from radiffuse.metrics import StoreMetrics, TrainingMetrics, WorkerMetrics

SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "info": ("_info",)}
"""By type of a metric: what its series are called besides their labels."""
WRITTEN = "Written by `make generate` from `src/radiffuse/metrics.py` and `charts/watching/`."


def metrics_page() -> str:
    """The page's text."""
    parts = (
        ["# Metrics and alerts", WRITTEN + " What to do about an alert stands in [runbook.md](runbook.md)."],
        ["## What a worker serves", table(("series", "type", "meaning"), _served())],
        ["## What Prometheus computes", _RECORDED, table(("series", "meaning"), _recorded())],
        ["## When it raises an alert", _RAISED, table(("alert", "severity", "when", "for"), _raised())],
        ["## What the dashboard joins", _JOINED, table(("exporter", "series"), _joined())],
        ["## Thresholds", _LIMITS, table(("threshold", "value", "why"), _limits())],
    )
    return "\n\n".join(paragraph for part in parts for paragraph in part) + "\n"


_RECORDED = (
    "The chart's PrometheusRule defines these series. Those of a run (`radiffuse:run:`) have the labels"
    f" `{RUN_LABELS.replace(', ', '`, `')}`; those of a rank (`radiffuse:rank:`) have `rank` too."
)
_RAISED = "The chart leaves out those that `monitoring.prometheusRule.disabled` names."
_JOINED = (
    "Closed rows at the dashboard's end show these where they are scraped; nothing of it is measured a second time."
)
_LIMITS = (
    "They are the same in every installation, so that what is tested is what runs. For another one, leave the alert out"
    " and write your own over the same series in `monitoring.prometheusRule.additionalGroups`."
)


def declared() -> Iterable[Metric]:
    """Every family of metrics that the code declares."""
    registry = CollectorRegistry()
    TrainingMetrics(registry, rank=0)
    WorkerMetrics(registry)
    StoreMetrics(registry)
    return registry.collect()


def series_of(family: Metric) -> tuple[str, ...]:
    """Names of the series by which Prometheus knows a family."""
    return tuple(f"{family.name}{suffix}" for suffix in SUFFIXES.get(family.type, ("",)))


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """As Markdown."""
    cells = [list(head), ["---"] * len(list(head)), *(list(row) for row in rows)]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in cells)


def _served() -> Iterator[tuple[str, ...]]:
    for family in sorted(declared(), key=lambda each: each.name):
        yield ", ".join(f"`{name}`" for name in series_of(family)), family.type, family.documentation


def _recorded() -> Iterator[tuple[str, ...]]:
    for rule in recordings():
        yield f"`{rule.name}`", rule.meaning


def _raised() -> Iterator[tuple[str, ...]]:
    for alert in alerts(CHART):
        link = f"[{alert.name}]({RUNBOOK.rpartition('/')[2]}#{alert.anchor})"
        yield link, alert.severity, f"`{alert.expression}`", duration(alert.for_seconds)


def _joined() -> Iterator[tuple[str, ...]]:
    for exporter, names in OTHERS.items():
        yield exporter, ", ".join(f"`{name}`" for name in names)


def _limits() -> Iterator[tuple[str, ...]]:
    for name, field in Thresholds.model_fields.items():
        yield f"`{name}`", f"{getattr(CHART, name):g}", field.description or ""
