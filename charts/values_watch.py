"""What Prometheus and Grafana are given. Each needs the Prometheus Operator, or Grafana's sidecar, to be read."""

from typing import Annotated

from pydantic import AfterValidator, Field

from charts.values_common import Annotations, ChartSettings, Duration, KubernetesObject, Labels
from charts.watching.rules import alert_names
from radiffuse.cluster.names import Namespace


def _known_alert(name: str) -> str:
    if name not in alert_names():
        raise ValueError(f"Input should be one of {', '.join(alert_names())}")
    return name


AlertName = Annotated[str, AfterValidator(_known_alert), Field(json_schema_extra={"enum": [*alert_names()]})]


class PodMonitor(ChartSettings):
    """Where Prometheus finds the pods of training jobs."""

    enabled: bool = Field(False, description="Create it, and one for the development store where that runs.")
    labels: Labels = Field({}, description="What your Prometheus selects by, such as release: prometheus.")
    interval: Duration = Field("15s", description="Between scrapes; less than the job's `linger_seconds`.")
    scrape_timeout: Duration | None = Field(None, description="None: that of your Prometheus.")


class PrometheusRule(ChartSettings):
    """Recording and alert rules; docs/runbook.md has a paragraph for each alert."""

    enabled: bool = Field(False, description="Create it.")
    disabled: tuple[AlertName, ...] = Field((), description="Alerts that are left out.")
    additional_groups: tuple[KubernetesObject, ...] = Field(
        (), description="Groups of rules of your own, such as a left-out alert with another threshold."
    )
    runbook_url: str | None = Field(
        None, pattern=r"^https?://[^#]+$", description="Page that alerts link to; None: docs/runbook.md of radiffuse."
    )
    labels: Labels = Field({}, description="What your Prometheus selects by, such as release: prometheus.")


class Dashboard(ChartSettings):
    """The Grafana dashboard, as a ConfigMap that Grafana's sidecar reads."""

    enabled: bool = Field(False, description="Create it.")
    labels: Labels = Field({"grafana_dashboard": "1"}, description="What the sidecar selects by.")
    annotations: Annotations = Field({}, description="Of the ConfigMap, such as grafana_folder.")
    namespace: Namespace | None = Field(None, description="Where the sidecar looks; None: that of the release.")


class Monitoring(ChartSettings):
    """Metrics, alerts and the dashboard."""

    pod_monitor: PodMonitor = PodMonitor()
    prometheus_rule: PrometheusRule = PrometheusRule()
    dashboard: Dashboard = Dashboard()
