"""Rules, dashboards and runbooks that are shipped: they name what exists, and Prometheus itself has read them."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from prometheus_client import REGISTRY
from typer.core import TyperGroup

import promql
from comanda.cli.table import app

RUNBOOKS = promql.ROOT / "docs" / "runbooks"
PROMTOOL = shutil.which("promtool", path=f"{promql.ROOT / '.venv/bin'}{os.pathsep}{os.environ['PATH']}")
SUFFIXES = ("", "_total", "_bucket", "_count", "_sum")


def known() -> set[str]:
    """Every name that a process could have at /metrics."""
    return {f"{family.name}{suffix}" for family in REGISTRY.collect() for suffix in SUFFIXES}


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ('sum by (job) (rate(a_total{b="c",d=~"e|f"}[5m])) / on (job) g', {"a_total", "g"}),
        ("histogram_quantile(0.99, sum by (le) (rate(a_bucket[5m]))) > 14.4 * 0.001", {"a_bucket"}),
        ('time() - max(a{job="$job"}) and x:y:z', {"a", "x:y:z"}),
    ],
)
def test_the_names_in_an_expression_are_found(expression: str, names: set[str]) -> None:
    assert promql.names_in(expression) == names


def test_every_metric_of_rules_and_dashboards_is_one_of_ours() -> None:
    used = promql.metrics_used()
    assert len(used) > 20
    strangers = {name: place for name, place in used.items() if name not in known()}
    assert not strangers


def test_every_label_that_is_used_is_one_of_its_metric() -> None:
    """A label that is not there chooses nothing: a graph stays empty, and an alert silent."""
    made: dict[str, set[str]] = {}
    for rule in promql.rules():
        if "record" in rule:
            through = [made[name] for name in promql.names_in(rule["expr"]) if name in made]
            chosen = {one.strip() for inside in promql.grouped(rule["expr"]) for one in inside.split(",")}
            made[rule["record"]] = chosen.union(rule.get("labels", ()), *through)
    used = promql.labels_used()
    assert len(used) > 20
    for name, labels in used.items():
        if name == "up":  # Prometheus makes it
            continue
        family: Any = REGISTRY._names_to_collectors.get(name)
        declared = made[name] if family is None else set(family._labelnames)
        assert labels <= declared | {"job", "le"}, name


def test_every_bucket_that_is_chosen_is_there() -> None:
    chosen = {(name, matched["le"]) for _, name, matched in promql.selectors() if "le" in matched}
    assert len(chosen) >= 3
    for name, bound in chosen:
        histogram: Any = REGISTRY._names_to_collectors[name]
        assert float(bound) in histogram._kwargs["buckets"], name
        assert bound == str(float(bound)), "as Prometheus writes it"


def test_each_alert_has_its_page_and_each_page_its_alert() -> None:
    named = {rule["alert"] for rule in promql.alerts()}
    assert named == {path.stem for path in RUNBOOKS.glob("*.md")}
    for rule in promql.alerts():
        assert rule["annotations"]["runbook_url"] == f"{{{{ $externalLabels.runbooks }}}}/{rule['alert']}.md"
        assert rule["labels"]["severity"] in {"page", "ticket"}
        page = (RUNBOOKS / f"{rule['alert']}.md").read_text()
        assert "**Look**" in page
        assert "**Do**" in page


def test_each_alert_is_seen_quiet_and_seen_to_fire() -> None:
    checks = [
        check
        for test in yaml.safe_load((promql.PROMETHEUS / "tests.yml").read_text())["tests"]
        for check in test["alert_rule_test"]
    ]
    for rule in promql.alerts():
        mine = [bool(check["exp_alerts"]) for check in checks if check["alertname"] == rule["alert"]]
        assert set(mine) == {False, True}, rule["alert"]


def test_runbooks_name_commands_that_exist() -> None:
    told = set()
    for path in RUNBOOKS.glob("*.md"):
        told |= set(re.findall(r"`comanda ([a-z-]+(?: [a-z-]+)?)", path.read_text()))
    assert len(told) > 5
    root = typer.main.get_command(app)
    assert isinstance(root, TyperGroup)
    for words in told:
        first, _, second = words.partition(" ")
        command = root.commands.get(first)
        assert command is not None, words
        if isinstance(command, TyperGroup):
            assert second in command.commands, words


def test_runbooks_and_dashboards_point_at_what_is_there() -> None:
    titles = set()
    for path in promql.DASHBOARDS:
        board = json.loads(path.read_text())
        assert board["schemaVersion"] >= 39  # of Grafana 11; later ones read it too
        ids = [panel["id"] for panel in board["panels"]]
        assert len(set(ids)) == len(ids)
        assert [one["name"] for one in board["templating"]["list"] if one["type"] == "datasource"] == ["source"]
        source = {"type": "prometheus", "uid": "${source}"}  # whichever Grafana has: none is named
        for panel in board["panels"]:
            targets = panel.get("targets", [])
            assert bool(targets) == (panel["type"] != "row"), panel["title"]
            assert all(one["datasource"] == source for one in (panel, *targets) if targets), panel["title"]
            assert len({target["refId"] for target in targets}) == len(targets), panel["title"]
        spots = [panel["gridPos"] for panel in board["panels"]]
        cells = [(x, y) for spot in spots for x in range(spot["x"], spot["x"] + spot["w"])
                 for y in range(spot["y"], spot["y"] + spot["h"])]  # fmt: skip
        assert len(set(cells)) == len(cells), "no panel lies upon another"
        assert max(x for x, _ in cells) < 24
        titles |= {panel["title"] for panel in board["panels"]}
        for panel in board["panels"]:
            for page in re.findall(r"docs/runbooks/\w+\.md", panel.get("description", "")):
                assert (promql.ROOT / page).exists()
    for path in RUNBOOKS.glob("*.md"):
        meant = re.findall(r"(?<!\*)\*([^*]+)\*(?!\*)", path.read_text())
        for panel in meant:
            assert any(title.startswith(panel) for title in titles), (path.name, panel)


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not there: `make promtool`, or Debian's package prometheus")
@pytest.mark.parametrize(
    "arguments",
    [("check", "config", "prometheus.yml"), ("check", "rules", *promql.RULES), ("test", "rules", "tests.yml")],
)
def test_promtool_finds_nothing(arguments: tuple[str, ...]) -> None:
    assert PROMTOOL is not None
    ran = subprocess.run([PROMTOOL, *arguments], cwd=promql.PROMETHEUS, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not there")
def test_promtool_sees_an_alert_that_never_fires(tmp_path: Path) -> None:
    shutil.copytree(promql.PROMETHEUS, tmp_path, dirs_exist_ok=True)
    rules = tmp_path / "alerts.yml"
    rules.write_text(rules.read_text().replace("(sagas_stuck) > 0", "(sagas_stuck) > 1000"))
    assert PROMTOOL is not None
    ran = subprocess.run([PROMTOOL, "test", "rules", "tests.yml"], cwd=tmp_path, capture_output=True, check=False)
    assert ran.returncode == 1


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not there")
@pytest.mark.parametrize(("broken", "code"), [("", 0), (" by (", 1)])
def test_promtool_reads_each_expression_of_a_dashboard(tmp_path: Path, broken: str, code: int) -> None:
    exprs = [target["expr"] for panel in promql.panels() for target in panel.get("targets", ())]
    assert len(exprs) > 20
    rules = [{"record": f"panel:{number}", "expr": f"{expr}{broken}"} for number, expr in enumerate(exprs)]
    file = tmp_path / "panels.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    assert PROMTOOL is not None
    ran = subprocess.run([PROMTOOL, "check", "rules", "--lint=none", file], capture_output=True, text=True, check=False)
    assert ran.returncode == code, ran.stdout + ran.stderr
