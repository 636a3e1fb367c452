"""What a rule is, and how the job's labels are called where Prometheus has them."""

import re
from dataclasses import dataclass
from typing import Any, Literal

from radiffuse.cluster.kinds import RUN_LABEL
from radiffuse.cluster.pod import INSTANCE_LABEL

RUNBOOK = "docs/runbook.md"
"""In this repository; the chart's `monitoring.prometheusRule.runbookUrl` puts an address of yours in its place."""


def label_name(pod_label: str) -> str:
    """What the Prometheus Operator calls a pod's label that `podTargetLabels` names."""
    return re.sub(r"[^a-zA-Z0-9_]", "_", pod_label)


RUN, JOB = label_name(RUN_LABEL), label_name(INSTANCE_LABEL)
"""The run's name, and that of the job that trains it: another plan of the same run is another job."""
RUN_LABELS = f"namespace, {RUN}, {JOB}"
BY_RUN = f"by ({RUN_LABELS})"


def template_of(label: str) -> str:
    """A label's value in an annotation, as Prometheus fills it in."""
    return f"{{{{ $labels.{label} }}}}"


def duration(seconds: int) -> str:
    """As Prometheus writes it."""
    return f"{seconds // 60}m" if seconds % 60 == 0 and seconds > 0 else f"{seconds}s"


@dataclass(frozen=True)
class Recording:
    """A series that Prometheus computes, and what it means."""

    name: str
    expression: str
    meaning: str

    def to_rule(self) -> dict[str, Any]:
        """As a rule of a group."""
        return {"record": self.name, "expr": self.expression}


@dataclass(frozen=True)
class Alert:
    """A condition that somebody should hear of."""

    name: str
    expression: str
    for_seconds: int
    severity: Literal["warning", "critical"]
    """critical: the run loses work or makes none; warning: it makes less than it could."""
    summary: str
    """One sentence, with Prometheus's templates."""

    @property
    def anchor(self) -> str:
        """Of its paragraph in the runbook."""
        return self.name.lower()

    def to_rule(self) -> dict[str, Any]:
        """As a rule of a group."""
        run = f"Run {template_of(RUN)} (job {template_of(JOB)} in {template_of('namespace')})"
        return {
            "alert": self.name,
            "expr": self.expression,
            "for": duration(self.for_seconds),
            "labels": {"severity": self.severity},
            "annotations": {"summary": f"{run} {self.summary}", "runbook_url": f"{RUNBOOK}#{self.anchor}"},
        }
