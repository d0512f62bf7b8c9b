"""The results of all runs so far: what was run anew takes its old row's place. Pure.

The document beside the page, to which fields may be added:

    {"rows": [{"name": "…", "group": "…", "failure": "…", "how": "…", "saw": "…", "target": "…", "measured": "…",
               "verdict": "met|missed|skipped|later", "broken": ["…"], "at": "…", "seconds": 12.3, "revision": "…",
               "cores": 2}, …]}
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

import msgspec

from comanda.clock import rfc3339
from comanda.proof.matrix.scenario import Outcome, Scenario, Verdict

MET, MISSED, BROKEN = 0, 1, 3


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the matrix. `broken`: promises that the ledgers show as not kept, whatever was measured."""

    name: str
    group: str
    failure: str
    how: str
    saw: str
    target: str
    measured: str
    verdict: Verdict
    broken: Sequence[str] = field(default_factory=list)
    at: str = ""
    seconds: float = 0.0
    revision: str = ""
    cores: int = 0

    @classmethod
    def of(cls, scenario: Scenario, outcome: Outcome, broken: Sequence[str], *, at: datetime, seconds: float) -> "Row":
        """What a scenario came to; a broken promise is a missed target."""
        verdict: Verdict
        if scenario.later:
            verdict = "later"
        elif broken:
            verdict = "missed"
        elif outcome.is_met is None:
            verdict = "skipped"
        else:
            verdict = "met" if outcome.is_met else "missed"
        told = (scenario.name, scenario.group, scenario.failure, scenario.how)
        return cls(
            *told, outcome.saw, scenario.target, outcome.measured, verdict, list(broken), rfc3339(at), round(seconds, 1)
        )

    def run_on(self, revision: str, cores: int) -> "Row":
        return replace(self, revision=revision, cores=cores)


def merged(known: Sequence[Row], ran: Sequence[Row], order: Sequence[str]) -> list[Row]:
    """In the order of the table; a row whose scenario is no longer there is left out."""
    latest = {row.name: row for row in [*known, *ran]}
    return [latest[name] for name in order if name in latest]


def exit_code(ran: Sequence[Row]) -> int:
    """3: a promise is broken. A missed target is told, and is no failure of the run."""
    return BROKEN if any(row.broken for row in ran) else MET


def stored(rows: Sequence[Row]) -> str:
    """JSON, one row after the other, so that a new run is a readable change."""
    return msgspec.json.format(msgspec.json.encode({"rows": rows}), indent=1).decode() + "\n"


def read(text: str) -> list[Row]:
    """What `stored` wrote.

    Raises:
        ValueError: it is something else.
    """

    class Document(msgspec.Struct):
        rows: list[Row]

    return msgspec.json.decode(text, type=Document).rows
