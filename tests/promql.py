"""What deploy/ says of metrics: the expressions of rules and dashboards, and the names in them."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
PROMETHEUS = ROOT / "deploy" / "prometheus"
RULES = ("recording.yml", "alerts.yml")
DASHBOARDS = sorted((ROOT / "deploy" / "grafana").glob("*.json"))

_WORDS = {"and", "or", "unless", "by", "without", "on", "ignoring", "group_left", "group_right", "bool", "offset"}
_NOT_OURS = {"up"}  # Prometheus makes it
_SILENT = re.compile(r"\"[^\"]*\"|\{[^}]*\}|\[[^\]]*\]|\b(?:by|without|on|ignoring)\s*\([^)]*\)|\$\w+")
_SELECTOR = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)\{([^}]*)\}")
_MATCHER = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"([^\"]*)\"")
_GROUPED = re.compile(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)")
_LEGEND = re.compile(r"\{\{\s*(\w+)\s*\}\}")
_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*(?!\s*\()\b(?!\s*\()")


def rules() -> list[dict[str, Any]]:
    """Every rule, recording or alert."""
    return [
        rule
        for name in RULES
        for group in yaml.safe_load((PROMETHEUS / name).read_text())["groups"]
        for rule in group["rules"]
    ]


def alerts() -> list[dict[str, Any]]:
    return [rule for rule in rules() if "alert" in rule]


def expressions() -> Iterator[tuple[str, str]]:
    """Where each expression stands, and what it says."""
    for rule in rules():
        yield rule.get("alert") or rule["record"], rule["expr"]
    for path in DASHBOARDS:
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel.get("targets", ()):
                yield f"{path.name}: {panel['title']}", target["expr"]


def names_in(expression: str) -> set[str]:
    """The metrics that an expression reads."""
    bare = _SILENT.sub(" ", expression)
    return {name for name in _NAME.findall(bare) if name not in _WORDS and not name.isdigit()}


def metrics_used() -> dict[str, str]:
    """The metrics of Comanda itself that rules and dashboards read, each with a place where it does."""
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    return {name: place for place, expression in expressions() for name in names_in(expression) - recorded - _NOT_OURS}


def selectors() -> Iterator[tuple[str, str, dict[str, str]]]:
    """Each selector: where it stands, the metric, and its labels with what they are compared with."""
    for place, expression in expressions():
        for name, inside in _SELECTOR.findall(expression):
            yield place, name, dict(_MATCHER.findall(inside))


def grouped(expression: str) -> list[str]:
    """What stands between the brackets of each `by`, `without`, `on` and `ignoring`."""
    return _GROUPED.findall(expression)


def labels_used() -> dict[str, set[str]]:
    """The labels by which each metric is chosen, grouped or named in a legend, by metric."""
    found: dict[str, set[str]] = {}
    for _, name, matched in selectors():
        found.setdefault(name, set()).update(matched)
    for _, expression in expressions():
        labels = {one.strip() for inside in grouped(expression) for one in inside.split(",")} - {""}
        for name in names_in(expression):
            found.setdefault(name, set()).update(labels)
    for panel in panels():
        for target in panel.get("targets", ()):
            for name in names_in(target["expr"]):
                found.setdefault(name, set()).update(_LEGEND.findall(target.get("legendFormat", "")))
    return found


def panels() -> Iterator[dict[str, Any]]:
    """Every panel of every dashboard."""
    for path in DASHBOARDS:
        yield from json.loads(path.read_text())["panels"]
