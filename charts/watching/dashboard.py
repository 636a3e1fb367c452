"""charts/radiffuse/files/dashboard.json: one job at a time, in Grafana's own types. `panel.py` says what is in it."""

import json
from collections.abc import Callable, Iterator
from typing import Any

from grafana_foundation_sdk.builders import (
    common,
    dashboard,
    prometheus,
    stat,
    statetimeline,
    statushistory,
    table,
    timeseries,
)
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import prometheus as prometheus_models

from charts.watching.others_rows import others_rows
from charts.watching.own_rows import own_rows
from charts.watching.panel import OURS, Panel, Query, Row
from charts.watching.rule import JOB, RUN

UID, TITLE = "radiffuse-jobs", "radiffuse: training jobs"
BLUE, ORANGE, GREEN, PURPLE, SKY = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9"
VERMILION, YELLOW = "#D55E00", "#F0E442"
COLORS = (BLUE, ORANGE, GREEN, PURPLE, SKY, YELLOW)
"""Of Okabe and Ito, who chose them so that nobody takes one for another; vermilion is kept for what is too much."""
HEIGHT, LOW = 8, 4
SOURCE = models.DataSourceRef(type_val="prometheus", uid="${datasource}")
INFO = "radiffuse_worker_info"


def dashboard_file() -> str:
    """The file's text."""
    return json.dumps(make_dashboard(), cls=JSONEncoder, indent=1, sort_keys=True) + "\n"


def make_dashboard() -> models.Dashboard:
    """All rows, and what is chosen above them."""
    made = (
        dashboard.Dashboard(TITLE)
        .uid(UID)
        .tags(["radiffuse"])
        .description("One training job of radiffuse: what it does, how fast, and what stands in its way.")
        .readonly()
        .refresh("30s")
        .time("now-3h", "now")
        .timezone("browser")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .with_variable(dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
        .with_variable(_choice("namespace", "Namespace", f"label_values({INFO}, namespace)"))
        .with_variable(_choice("run", "Run", f'label_values({INFO}{{namespace="$namespace"}}, {RUN})'))
        .with_variable(_choice("job", "Job", f'label_values({INFO}{{namespace="$namespace", {RUN}="$run"}}, {JOB})'))
        .with_variable(
            _choice("pod", "Pods", f"label_values({INFO}{{{OURS}}}, pod)")
            .hide(models.VariableHide.HIDE_VARIABLE)
            .multi(True)
            .include_all(True)
        )
    )
    for row in (*own_rows(), *others_rows()):
        _add_row(made, row)
    finished = made.build()
    for number, panel in enumerate(all_panels(finished), start=1):
        panel.id_val = number
    return finished


def all_panels(made: models.Dashboard) -> Iterator[models.Panel | models.RowPanel]:
    """Rows and panels, those of closed rows included."""
    for panel in made.panels or []:
        yield panel
        if isinstance(panel, models.RowPanel):
            yield from panel.panels


def _choice(name: str, label: str, query: str) -> dashboard.QueryVariable:
    return (
        dashboard.QueryVariable(name)
        .label(label)
        .datasource(SOURCE)
        .query({"query": query, "refId": name})
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
    )


def _add_row(made: dashboard.Dashboard, row: Row) -> None:
    """An open row is followed by its panels, a closed one holds them."""
    heading = dashboard.Row(row.title).collapsed(row.is_optional)
    if row.is_optional:
        for panel in row.panels:
            heading.with_panel(_picture(panel))
    made.with_row(heading)
    if not row.is_optional:
        for panel in row.panels:
            made.with_panel(_picture(panel))


def _picture(panel: Panel) -> Any:
    make: dict[str, Callable[[Panel], Any]] = {
        "figure": _figure,
        "lines": _lines,
        "states": _states,
        "heat": _heat,
        "table": _table,
    }
    picture = make[panel.kind](panel).title(panel.title).description(panel.meaning).datasource(SOURCE)
    for number, query in enumerate(panel.queries):
        picture.with_target(_target(query, chr(ord("A") + number), panel.kind))
    return picture.span(panel.width).height(LOW if panel.kind == "figure" else HEIGHT)


def _target(query: Query, name: str, kind: str) -> prometheus.Dataquery:
    target = prometheus.Dataquery().expr(query.expression).ref_id(name).datasource(SOURCE)
    if kind == "table":
        return target.instant().format(prometheus_models.PromQueryFormat.TABLE)
    return (target.instant() if kind == "figure" else target.range()).legend_format(query.legend or "__auto")


def _fixed(color: str) -> dashboard.FieldColor:
    return dashboard.FieldColor().mode(models.FieldColorModeId.FIXED).fixed_color(color)


def _limits(limit: float | None, normal: str) -> dashboard.ThresholdsConfig:
    steps = [models.Threshold(value=None, color=normal)]
    if limit is not None:
        steps.append(models.Threshold(value=limit, color=VERMILION))
    return dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps)


def _figure(panel: Panel) -> stat.Panel:
    return (
        stat.Panel()
        .unit(panel.unit)
        .thresholds(_limits(panel.limit, BLUE))
        .color_scheme(dashboard.FieldColor().mode(models.FieldColorModeId.THRESHOLDS))
        .color_mode(common_models.BigValueColorMode.VALUE)
        .graph_mode(common_models.BigValueGraphMode.NONE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .no_value("-")
    )


def _lines(panel: Panel) -> timeseries.Panel:
    picture = (
        timeseries.Panel()
        .unit(panel.unit)
        .line_width(2)
        .fill_opacity(0)
        .show_points(common_models.VisibilityMode.AUTO)
        .legend(
            common.VizLegendOptions()
            .show_legend(len(panel.queries) > 1)
            .display_mode(common_models.LegendDisplayMode.LIST)
            .placement(common_models.LegendPlacement.BOTTOM)
        )
        .tooltip(common.VizTooltipOptions().mode(common_models.TooltipDisplayMode.MULTI))
    )
    for number, color in zip(range(len(panel.queries)), COLORS, strict=False):
        value = {"mode": models.FieldColorModeId.FIXED, "fixedColor": color}
        picture.override_by_query(chr(ord("A") + number), [models.DynamicConfigValue(id_val="color", value=value)])
    if panel.limit is not None:
        dashed = common_models.GraphTresholdsStyleMode.DASHED
        picture.thresholds(_limits(panel.limit, "transparent"))
        picture.thresholds_style(common.GraphThresholdsStyleConfig().mode(dashed))
    return picture


def _states(panel: Panel) -> statetimeline.Panel:
    names = {
        str(number): models.ValueMappingResult(text=state, color=color, index=number)
        for number, (state, color) in enumerate(zip(panel.states, COLORS, strict=False), start=1)
    }
    return statetimeline.Panel().mappings([models.ValueMap(options=names)]).merge_values(True).fill_opacity(80)


def _heat(panel: Panel) -> statushistory.Panel:
    # Light to dark in one hue: it is read by brightness alone.
    blues = dashboard.FieldColor().mode(models.FieldColorModeId.CONTINUOUS_BLUES)
    picture = statushistory.Panel().unit(panel.unit).color_scheme(blues).fill_opacity(100).min(0)
    return picture.show_value(common_models.VisibilityMode.NEVER)


def _table(panel: Panel) -> table.Panel:
    hidden = models.DataTransformerConfig(
        id_val="organize",
        options={"excludeByName": {"Time": True, "Value": True}, "indexByName": {}, "renameByName": {}},
    )
    return table.Panel().show_header(True).with_transformation(hidden).no_value("none")
