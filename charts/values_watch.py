"""What Prometheus and Grafana are given. Each needs the Prometheus Operator, or Grafana's sidecar, to be read."""

from pydantic import Field

from charts.values_common import Annotations, ChartSettings, Duration, Labels
from radiffuse.cluster.names import Namespace


class PodMonitor(ChartSettings):
    """Where Prometheus finds the pods of training jobs."""

    enabled: bool = Field(False, description="Create it, and one for the development store where that runs.")
    labels: Labels = Field({}, description="What your Prometheus selects by, such as release: prometheus.")
    interval: Duration = Field("15s", description="Between scrapes; less than the job's `linger_seconds`.")
    scrape_timeout: Duration | None = Field(None, description="None: that of your Prometheus.")


class PrometheusRule(ChartSettings):
    """Recording and alert rules; docs/runbook.md has a paragraph for each alert."""

    enabled: bool = Field(False, description="Create it.")
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
