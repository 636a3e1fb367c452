"""What a row of the dashboard shows, before Grafana's own words come in; and which series are whose."""

from dataclasses import dataclass
from typing import Literal

from charts.watching.rule import JOB

OURS = f'namespace="$namespace", {JOB}="$job"'
"""Chosen at the top of the dashboard; the name of a job tells its run and its plan."""


@dataclass(frozen=True)
class Query:
    """One expression, and what its series are called in the legend."""

    expression: str
    legend: str = ""


@dataclass(frozen=True)
class Panel:
    """One picture. Each query has a colour of its own, so a query should give one series, or one per pod or rank."""

    title: str
    meaning: str
    queries: tuple[Query, ...]
    unit: str = "short"
    """In Grafana's words."""
    kind: Literal["figure", "lines", "states", "heat", "table"] = "lines"
    width: int = 8
    """Of 24 columns."""
    limit: float | None = None
    """Above it somebody is told, or would be if it lasted."""
    states: tuple[str, ...] = ()
    """Names of the values 1, 2, and so on."""


@dataclass(frozen=True)
class Row:
    """Panels under one heading. An optional row is closed, and empty where nobody scrapes its exporter."""

    title: str
    panels: tuple[Panel, ...]
    is_optional: bool = False


def of_job(series: str, labels: str = "") -> str:
    """A series of the job that is looked at."""
    return f"{series}{{{OURS}{', ' if labels else ''}{labels}}}"


def most(series: str, labels: str = "") -> str:
    """The only value of a series that one pod of the job has, or the greatest, whatever pod it is that has it now."""
    return f"max({of_job(series, labels)})"


def rate(series: str, labels: str = "") -> str:
    """Growth per second, over all pods of the job."""
    return f"sum(rate({of_job(series, labels)}[$__rate_interval]))"


def quantiles(histogram: str) -> tuple[Query, ...]:
    """Three of a histogram's quantiles."""
    buckets = f"sum by (le) (rate({of_job(f'{histogram}_bucket')}[$__rate_interval]))"
    return tuple(Query(f"histogram_quantile({share}, {buckets})", f"p{share * 100:g}") for share in (0.5, 0.95, 0.99))
