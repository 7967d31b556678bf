"""docs/metrics.md, docs/alerts.yml and docs/runbook.md agree with the table of metrics and with one another."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from reindexer.monitoring.metrics import METRICS
from tests.support.alerts import ALERTS, EXPOSED, rules
from tests.support.docs import DOCUMENTS, anchors, sections, table_rows
from tests.support.processes import ROOT

DOCS = ROOT / "docs"

_SELECTOR = re.compile(r"\b(reindexer_\w+)\b(?:\{([^}]*)\})?")
_MATCHER = re.compile(r'(\w+)\s*(=~|!=|!~|=)\s*"([^"]*)"')


def queries() -> Iterator[tuple[str, str]]:
    """(where it stands, the query): of every rule, and of every document's code that looks like one."""
    for rule in rules():
        yield rule["alert"], rule["expr"]
    for document in DOCUMENTS:
        for code in re.findall(
            r"`([^`\n]*reindexer_\w+[^`\n]*\([^`\n]*\)[^`\n]*|[^`\n]*\(reindexer_\w+[^`\n]*)`",
            document.read_text("utf-8"),
        ):
            yield document.name, code.replace("\\|", "|")


def test_every_metric_is_documented_with_its_kind_and_labels_and_none_that_does_not_exist() -> None:
    rows = [
        row for row in table_rows((DOCS / "metrics.md").read_text(encoding="utf-8")) if row[0].startswith("reindexer_")
    ]
    documented = {
        name: (kind, set(re.findall(r"\b[a-z]+\b", re.sub(r"\([^)]*\)", "", labels)))) for name, kind, labels, _ in rows
    }
    assert documented == {name: (metric.kind, set(metric.labels)) for name, metric in METRICS.items()}
    assert len(rows) == len(METRICS)
    assert all(meaning for *_, meaning in rows)


def test_every_known_value_of_a_label_is_told_with_one_of_the_metrics_that_have_it() -> None:
    lines = (DOCS / "metrics.md").read_text(encoding="utf-8").splitlines()
    told = {name: next(line for line in lines if line.startswith(f"| `{name}`")) for name in METRICS}
    for metric in METRICS.values():
        for label, values in metric.labels.items():
            like = [told[each.name] for each in METRICS.values() if each.labels.get(label) == values]
            assert any(all(f"`{value}`" in row for value in values) for row in like), (metric.name, label)


@pytest.mark.parametrize(
    ("where", "query"), [pytest.param(*each, id=f"{each[0]}-{n}") for n, each in enumerate(queries())]
)
def test_every_query_names_metrics_labels_and_values_that_exist(where: str, query: str) -> None:
    found = _SELECTOR.findall(query)
    assert found
    for name, matchers in found:
        assert name in EXPOSED, name
        metric = EXPOSED[name]
        for label, _, value in _MATCHER.findall(matchers):
            known = metric.bounds if label == "le" else metric.labels[label]
            assert not known or set(value.split("|")) <= set(known), (name, label, value)


def test_every_document_names_metrics_that_exist() -> None:
    for document in (*DOCUMENTS, ALERTS):
        for name in re.findall(
            r"\breindexer_[a-z_]+_(?:seconds\w*|total|items|changes|messages|runs|open|state|processes)\b",
            document.read_text("utf-8"),
        ):
            assert name in EXPOSED or name in METRICS, (document.name, name)


def test_alert_rules_are_complete_and_each_has_its_section_in_the_runbook_and_no_section_is_without_one() -> None:
    names = [rule["alert"] for rule in rules()]
    assert len(names) == len(set(names))
    for rule in rules():
        assert rule.keys() <= {"alert", "expr", "for", "labels", "annotations"}
        assert re.fullmatch(r"Reindexer[A-Z]\w+", rule["alert"])
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert rule["annotations"]["summary"]
        document, anchor = rule["annotations"]["runbook"].split("#")
        assert anchor == rule["alert"].lower()
        assert anchor in anchors(ROOT / document)
    runbook = sections(DOCS / "runbook.md", 2)
    assert list(runbook) == names
    for title, body in runbook.items():
        parts = re.findall(r"^\*\*(For users|Look|Mend|Costs):\*\*", body, re.MULTILINE)
        assert parts == ["For users", "Look", "Mend", "Costs"], title


@pytest.fixture
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is not on this machine; it comes with Prometheus")
    return found


@pytest.mark.parametrize(
    "arguments",
    [("check", "rules", str(ALERTS)), ("test", "rules", str(Path(__file__).with_name("alerts_test.yml")))],
    ids=["syntax", "behaviour"],
)
def test_prometheus_itself_takes_the_rules_and_they_fire_when_they_should(
    promtool: str, arguments: tuple[str, ...]
) -> None:
    done = subprocess.run([promtool, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
