"""The report as one page that needs nothing else: no script, no font, no picture from anywhere."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from comanda.proof.chaos import timeline

_ENVIRONMENT = Environment(
    loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
)


def rendered(report: Mapping[str, Any]) -> str:
    """HTML."""
    return _ENVIRONMENT.get_template("page.html").render(
        report=report, drawing=timeline.drawing(report), draw=timeline, took=_took, told=_told
    )


def _took(seconds: float | None) -> str:
    return "never" if seconds is None else f"{seconds:.2f} s"


def _told(row: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in row.items()) if list(row) != ["problem"] else row["problem"]
