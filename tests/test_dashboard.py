"""deploy/grafana/dashboard.json: it fits Grafana, and Prometheus evaluates it and the alert rules on real scrapes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Any

import pytest
import yaml

from reindexer.monitoring.metrics import METRICS
from tests.support.alerts import EXPOSED, rules
from tests.support.processes import ROOT
from tests.support.scrapes import FOLDER, read

DASHBOARD: Mapping[str, Any] = json.loads((ROOT / "deploy" / "grafana" / "dashboard.json").read_text(encoding="utf-8"))
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
VARIABLES = {"$__rate_interval": "5m", "$source": ".*"}

_STRING = re.compile(r'"[^"]*"')
_WORD = re.compile(r"(?<![\w.$])[a-z_]\w*")
_OF_PROMQL = {
    "absent", "and", "bool", "by", "count", "d", "group_left", "h", "histogram_quantile", "ignoring", "increase", "m", "max",
    "min", "on", "or", "rate", "sum", "unless", "without",
}  # fmt: skip
FIRE_BROKEN = {
    "ReindexerListenerAbsent", "ReindexerNoWorkers", "ReindexerDependencyAway", "ReindexerBreakerOpen", "ReindexerItemsFailed",
    "ReindexerTriggersWrong", "ReindexerSourceProblem", "ReindexerSourcePaused", "ReindexerProviderFails",
}  # fmt: skip


def expressions() -> Iterator[tuple[str, str]]:
    """(of which panel or alert, the expression with values for the dashboard's variables)."""
    for panel in PANELS:
        for target in panel["targets"]:
            expression = target["expr"]
            for name, value in VARIABLES.items():
                expression = expression.replace(name, value)
            yield f"{panel['title']}, {target['refId']}", expression
    for rule in rules():
        yield rule["alert"], rule["expr"]


@pytest.mark.parametrize(("where", "expression"), [pytest.param(*each, id=each[0]) for each in expressions()])
def test_every_name_and_label_and_value_in_an_expression_is_exported(where: str, expression: str) -> None:
    assert "$" not in expression
    words = set(_WORD.findall(_STRING.sub("", expression))) - _OF_PROMQL
    metrics = words & EXPOSED.keys()
    assert metrics, "it is about some metric of ours"
    labels = {label for name in metrics for label in EXPOSED[name].labels} | {"le"}
    assert words - metrics <= labels, words - metrics - labels
    for name, matchers in re.findall(r"\b(reindexer_\w+)\{([^}]*)\}", expression):
        for label, kind, value in re.findall(r'(\w+)\s*(=~|!=|!~|=)\s*"([^"]*)"', matchers):
            known = EXPOSED[name].bounds if label == "le" else EXPOSED[name].labels[label]
            assert not known or value == ".*" or set(value.split("|")) <= set(known), (name, label, kind, value)


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_legends_name_labels_that_their_expression_keeps(panel: Mapping[str, Any]) -> None:
    for target in panel["targets"]:
        for label in re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]):
            kept = re.findall(r"\bby \(([^)]*)\)", target["expr"])
            assert any(label in each.split(", ") for each in kept), (target["expr"], label)


def test_the_dashboard_is_of_a_schema_that_grafana_10_and_newer_take() -> None:
    assert 38 <= DASHBOARD["schemaVersion"] <= 39, "38: Grafana 10.0; newer ones migrate it"
    assert "id" not in DASHBOARD, "Grafana gives it"
    assert (DASHBOARD["uid"], DASHBOARD["title"]) == ("reindexer", "reindexer")
    variables = {each["name"]: each for each in DASHBOARD["templating"]["list"]}
    assert (variables["datasource"]["type"], variables["datasource"]["query"]) == ("datasource", "prometheus")
    assert variables["source"]["type"] == "query"
    (metric, label) = re.fullmatch(r"label_values\((\w+), (\w+)\)", variables["source"]["query"]["query"]).groups()  # type: ignore[union-attr]
    assert label in METRICS[metric].labels


def test_panels_ask_the_chosen_data_source_say_what_they_show_and_lie_beside_one_another() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    assert len({panel["title"] for panel in PANELS}) == len(PANELS)
    chosen = {"type": "prometheus", "uid": "${datasource}"}
    for panel in PANELS:
        assert panel["type"] in ("timeseries", "stat")
        assert panel["datasource"] == chosen
        assert panel["description"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert all(target["datasource"] == chosen for target in panel["targets"])
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
    places = [panel["gridPos"] for panel in DASHBOARD["panels"]]
    assert all(place["x"] + place["w"] <= 24 for place in places)
    assert [(one, other) for one, other in combinations(places, 2) if overlap(one, other)] == []


def overlap(one: Mapping[str, int], other: Mapping[str, int]) -> bool:
    return all(
        one[side] < other[side] + other[size] and other[side] < one[side] + one[size]
        for side, size in (("x", "w"), ("y", "h"))
    )


def test_no_metric_is_forgotten() -> None:
    """Each stands in a panel or in an alert; what is left out is named here."""
    shown = {EXPOSED[name].name for _, expression in expressions() for name in re.findall(r"reindexer_\w+", expression)}
    left_out = {
        "reindexer_build_info",
        "reindexer_source_inputs_total",
        "reindexer_source_characters_total",
        "reindexer_source_estimated_tokens_total",
    }
    assert METRICS.keys() - shown == left_out


@pytest.fixture(scope="module")
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is not on this machine; it comes with Prometheus")
    return found


def series(system: str) -> Iterator[dict[str, str]]:
    """What was recorded, as if what happened between the two scrapes went on happening every minute for two hours."""
    before, after = read(FOLDER / f"{system}-1.txt"), read(FOLDER / f"{system}-2.txt")
    for (name, labels), value in after.items():
        braces = ",".join(f"{label}={json.dumps(text)}" for label, text in sorted(labels))
        counted = name not in METRICS or METRICS[name].kind == "counter"
        grows = value - before.get((name, labels), 0.0) if counted else 0.0
        yield {"series": f"{name}{{{braces}}}", "values": f"{value:f}+{grows:f}x120"}


@pytest.fixture(scope="module")
def empty(promtool: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """Of which panels and alerts the expression finds nothing, or no number, in each system. Fails where one can't be evaluated."""
    found = {}
    for system in ("busy", "broken"):
        tests = [
            {
                "expr": f"count(({each}) == ({each})) > bool 0",
                "eval_time": "110m",
                "exp_samples": [{"labels": "{}", "value": 1}],
            }
            for _, each in expressions()
        ]
        file = tmp_path_factory.mktemp(system) / "test.yml"
        whole = {"interval": "1m", "input_series": list(series(system)), "promql_expr_test": tests}
        file.write_text(yaml.safe_dump({"evaluation_interval": "1m", "tests": [whole]}), encoding="utf-8")
        done = subprocess.run(
            [promtool, "test", "rules", str(file)], capture_output=True, text=True, check=False, timeout=60
        )
        failures = re.findall(r'expr: (".*"), time: 1h50m,?\s+exp:.*\s+got:\s*(.*)', done.stdout + done.stderr)
        assert all(got == "nil" for _, got in failures), failures
        assert len(failures) == (done.stdout + done.stderr).count("expr: "), done.stdout + done.stderr
        assert bool(failures) == bool(done.returncode), done.stdout + done.stderr
        wanting = {json.loads(expression) for expression, _ in failures}
        found[system] = {
            where for (where, _), test in zip(expressions(), tests, strict=True) if test["expr"] in wanting
        }
    return found


def test_every_panel_shows_something_of_the_busy_or_of_the_broken_system(empty: Mapping[str, set[str]]) -> None:
    alerts = {rule["alert"] for rule in rules()}
    assert empty["busy"] & empty["broken"] - alerts == set()


def test_no_alert_finds_fault_with_the_busy_system_and_those_that_should_do_with_the_broken_one(
    empty: Mapping[str, set[str]],
) -> None:
    alerts = {rule["alert"] for rule in rules()}
    assert alerts - empty["busy"] == set()
    assert alerts - empty["broken"] >= FIRE_BROKEN
