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
