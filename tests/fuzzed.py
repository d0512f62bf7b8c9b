"""What the last `make fuzz` came to: docs/fuzz.json, and the line of docs/security.md that is filled from it."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path

from comanda.cli.chaos import revision

DOCS = Path(__file__).parents[1] / "docs"
FIGURES, PAGE = DOCS / "fuzz.json", DOCS / "security.md"
LINE = re.compile(r"^The last `make fuzz`: .*$", re.MULTILINE)

Figures = dict[str, int | str]


def stamped(figures: dict[str, int]) -> Figures:
    """With the date and the revision of now."""
    return {"date": datetime.now(UTC).date().isoformat(), "revision": revision(), **figures}


def line(figures: Figures | None) -> str:
    """The page's line; without a run it says that there was none."""
    if figures is None:
        return "The last `make fuzz`: none is written down yet."
    told = {name: f"{value:,}" if isinstance(value, int) else value for name, value in figures.items()}
    return (
        "The last `make fuzz`: {requests} requests, {serverErrors} answers of 5xx, the API at {mibBefore} MiB before"
        " and {mibAfter} MiB after ({date}, revision {revision})."
    ).format(**told)


def last() -> Figures | None:
    """The last run that was written down."""
    found: Figures | None = json.loads(FIGURES.read_text(encoding="utf-8")) if FIGURES.exists() else None
    return found


def write(figures: Figures) -> None:
    """Write it down, and fill the page's line."""
    FIGURES.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(LINE.sub(lambda _: line(figures), page), encoding="utf-8")
