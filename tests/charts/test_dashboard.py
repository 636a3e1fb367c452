"""The dashboard that the chart ships: Grafana's types accept it, and it shows what there is and nothing else."""

import json
import re
from pathlib import Path

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models import dashboard as models

from charts.watching.alerts import alerts
from charts.watching.dashboard import COLORS, VERMILION, all_panels, make_dashboard
from charts.watching.others_rows import OTHERS, others_rows
from charts.watching.own_rows import own_rows
from charts.watching.page import declared, series_of
from charts.watching.panel import Row
from charts.watching.recordings import recordings
from charts.watching.thresholds import CHART
from tests.charts.expressions import series_in
from tests.charts.rendering import CHART as CHART_FOLDER
from tests.charts.rendering import of_kind, template
from tests.charts.watched_run import promtool_check

FILE = CHART_FOLDER / "files" / "dashboard.json"
OWN = {name for family in declared() for name in series_of(family)}
RECORDED = {rule.name for rule in recordings()}
BUILT_IN = {"ALERTS"}
GRAFANAS_OWN = {"__rate_interval"}
COLUMNS = 24


def expressions(rows: tuple[Row, ...]) -> list[str]:
    """Of every query in them."""
    return [query.expression for row in rows for panel in row.panels for query in panel.queries]


def shown(rows: tuple[Row, ...]) -> set[str]:
    """Every series that they read."""
    return set().union(*(series_in(expression) for expression in expressions(rows)))


def test_every_series_that_is_shown_is_declared_or_recorded() -> None:
    assert shown(own_rows()) - OWN - RECORDED == BUILT_IN


def test_every_metric_is_shown_or_goes_into_a_recorded_series() -> None:
    used = shown(own_rows()).union(*(series_in(rule.expression) for rule in recordings()))
    for family in declared():
        assert used & set(series_of(family)), family.name


def test_every_recorded_series_is_shown_or_alerted_on() -> None:
    used = shown(own_rows()).union(*(series_in(alert.expression) for alert in alerts(CHART)))
    assert RECORDED - used == set()


def test_what_others_export_is_joined_in_closed_rows_by_name() -> None:
    assert shown(others_rows()) == {name for names in OTHERS.values() for name in names}
    assert [row.is_optional for row in (*own_rows(), *others_rows())] == [False] * len(own_rows()) + [True] * len(
        OTHERS
    )


def test_grafanas_types_read_the_file_and_write_the_same() -> None:
    register_default_plugins()
    text = FILE.read_text(encoding="utf-8")
    again = json.dumps(models.Dashboard.from_json(json.loads(text)), cls=JSONEncoder, indent=1, sort_keys=True)
    assert again + "\n" == text


def test_every_variable_that_a_query_names_can_be_chosen_above() -> None:
    made = make_dashboard()
    assert made.templating.list_val is not None
    known = {variable.name for variable in made.templating.list_val}
    named = set(re.findall(r"\$\{?(\w+)", json.dumps(made, cls=JSONEncoder)))
    assert named == known | GRAFANAS_OWN


def test_panels_have_names_numbers_and_places_of_their_own() -> None:
    panels = list(all_panels(make_dashboard()))
    assert [panel.id_val for panel in panels] == list(range(1, len(panels) + 1))
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel.grid_pos
        assert place is not None and place.x + place.w <= COLUMNS
        cells = {(x, y) for x in range(place.x, place.x + place.w) for y in range(place.y, place.y + place.h)}
        assert not cells & taken, panel.title
        taken |= cells


def test_every_query_of_a_panel_has_a_colour_of_its_own_that_is_not_that_of_a_limit() -> None:
    assert VERMILION not in COLORS
    for row in (*own_rows(), *others_rows()):
        for panel in row.panels:
            assert len(panel.queries) <= len(COLORS), panel.title


@pytest.mark.parametrize("kind", ["protanopia", "deuteranopia"])
def test_who_sees_fewer_colours_can_tell_neighbours_apart(kind: str) -> None:
    seen = [as_seen(color, kind) for color in (*COLORS[:4], VERMILION)]
    for number, first in enumerate(seen):
        for second in seen[number + 1 :]:
            assert sum((a - b) ** 2 for a, b in zip(first, second, strict=True)) ** 0.5 > 0.1


def as_seen(color: str, kind: str) -> tuple[float, ...]:
    """A colour in linear light as somebody without one kind of cone sees it; Vienot, Brettel and Mollon 1999."""
    red, green, blue = (int(color[at : at + 2], 16) / 255 for at in (1, 3, 5))
    linear = [each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in (red, green, blue)]
    matrices = {
        "protanopia": ((0.11238, 0.88762, 0.0), (0.11238, 0.88762, 0.0), (0.00401, -0.00401, 1.0)),
        "deuteranopia": ((0.29275, 0.70725, 0.0), (0.29275, 0.70725, 0.0), (-0.02234, 0.02234, 1.0)),
    }
    return tuple(sum(weight * each for weight, each in zip(row, linear, strict=True)) for row in matrices[kind])


@pytest.mark.charts
def test_the_chart_gives_grafana_the_very_file() -> None:
    rendered = of_kind(template({"monitoring": {"dashboard": {"enabled": True}}}), "ConfigMap")
    [found] = [each for each in rendered if each["metadata"].get("labels", {}).get("grafana_dashboard") == "1"]
    assert json.loads(found["data"]["radiffuse.json"]) == json.loads(FILE.read_text(encoding="utf-8"))


@pytest.mark.charts
def test_prometheus_can_read_every_query(tmp_path: Path) -> None:
    rows = (*own_rows(), *others_rows())
    rules = [
        {"record": f"panel:{number}", "expr": re.sub(r"\$__rate_interval", "5m", expression)}
        for number, expression in enumerate(expressions(rows))
    ]
    path = tmp_path / "panels.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}), encoding="utf-8")
    done = promtool_check(path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(rules)} rules found" in done.stdout
