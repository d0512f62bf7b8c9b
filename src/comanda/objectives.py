"""Service level objectives: how many were as promised, and what is left of the error budget of 30 days.

The same definitions as in deploy/prometheus/recording.yml, from the same histograms; each process adds up its own.

    accept      POST orders are answered in time and not with 5xx (a slow 5xx counts twice)
    confirmed   orders that are confirmed are so in time
    webhook     events for webhooks are taken by their receivers in time
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from prometheus_client.metrics import MetricWrapperBase

from comanda import telemetry
from comanda.db import Database, Tx, twin
from comanda.errors import DependencyFault
from comanda.failpoints import Boundary
from comanda.resilience.loops import loop
from comanda.settings import Settings

COUNT = Boundary("objectives.count")

_sql = twin(__file__)
ADD = _sql["add"]
OF_DAYS = _sql["of_days"]

DAYS = 30
_EVERY = 10.0  # seconds; what a process has seen in them is lost when it is killed
_LOW = 0.25  # of the budget
_ORDERS = {"endpoint": "/api/v1/orders", "method": "POST"}


@dataclass(frozen=True, slots=True)
class Objective:
    """`share` of all within `seconds`."""

    name: str
    share: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Budget:
    """How an objective was kept since then; `bad` of `total` were not as promised."""

    objective: Objective
    total: int = 0
    bad: int = 0
    since: datetime | None = None

    @property
    def kept(self) -> float | None:
        """Which share was as promised; None: there was nothing."""
        return None if not self.total else max(0.0, 1 - self.bad / self.total)

    @property
    def left(self) -> float | None:
        """Of the budget, 1 at the most; below nought: more went wrong than may."""
        return None if not self.total else round(1 - self.bad / (self.total * (1 - self.objective.share)), 9)

    @property
    def word(self) -> str:
        match self.left:
            case None:
                return "unknown"
            case left if left <= 0:
                return "budget spent"
            case left if left < _LOW:
                return "budget low"
            case _:
                return "kept"


def objectives(settings: Settings) -> list[Objective]:
    """Those that are set."""
    known = {"accept": settings.slo_accept, "confirmed": settings.slo_confirmed, "webhook": settings.slo_webhook}
    return [Objective(name, percent / 100, seconds) for name, (percent, seconds) in known.items()]


class Seen:
    """What this process has seen since it last said so."""

    def __init__(self, wanted: Sequence[Objective]) -> None:
        self._wanted = {one.name: one for one in wanted}
        # The files of the metrics may have been begun by a process before this one.
        self._said = self._counts()

    def news(self) -> dict[str, tuple[int, int]]:
        """By objective: how many, and how many of them bad; only where there were any."""
        said = self._said
        now = self._counts()
        return {
            name: (total - said[name][0], bad - said[name][1])
            for name, (total, bad) in now.items()
            if total > said[name][0]
        }

    def told(self, news: Mapping[str, tuple[int, int]]) -> None:
        """That much has been written down."""
        for name, (total, bad) in news.items():
            before = self._said[name]
            self._said[name] = (before[0] + total, before[1] + bad)

    def _counts(self) -> dict[str, tuple[int, int]]:
        accept, confirmed, webhook = (self._wanted[name] for name in ("accept", "confirmed", "webhook"))
        orders = {"kind": "order", "state": "COMPLETED"}
        asked = _count(telemetry.REQUESTS, _ORDERS)
        completed = _count(telemetry.SAGAS, orders)
        sent = _count(telemetry.SAGAS, {"kind": "webhook"})
        return {
            "accept": (asked, asked - _within(telemetry.REQUESTS, _ORDERS, accept.seconds) + _failed()),
            "confirmed": (completed, completed - _within(telemetry.SAGAS, orders, confirmed.seconds)),
            "webhook": (
                sent,
                sent - _within(telemetry.SAGAS, {"kind": "webhook", "state": "COMPLETED"}, webhook.seconds),
            ),
        }


async def keep(database: Database, settings: Settings, stop: asyncio.Event) -> None:
    """Write down what this process sees, until told to stop; and the rest then."""
    seen = Seen(objectives(settings))

    async def write() -> bool:
        news = seen.news()
        if news:
            async with database.connection(COUNT) as tx:
                await add(tx, news)
            seen.told(news)
        return False

    await loop("objectives", write, stop=stop, every=_EVERY)
    with suppress(DependencyFault):
        await write()


async def add(tx: Tx, news: Mapping[str, tuple[int, int]]) -> None:
    """To this hour."""
    await ADD.run(tx, list(news), [total for total, _ in news.values()], [bad for _, bad in news.values()])


async def budgets(tx: Tx, settings: Settings) -> list[Budget]:
    """How each objective was kept in the last 30 days."""
    rows = {row["objective"]: row for row in await OF_DAYS.rows(tx, DAYS)}
    return [
        Budget(one, row["total"], row["bad"], row["since"]) if (row := rows.get(one.name)) is not None else Budget(one)
        for one in objectives(settings)
    ]


def _count(metric: MetricWrapperBase, labels: Mapping[str, str]) -> int:
    return _sum(metric, "_count", labels)


def _within(metric: MetricWrapperBase, labels: Mapping[str, str], seconds: float) -> int:
    return _sum(metric, "_bucket", {**labels, "le": str(float(seconds))})


def _failed() -> int:
    family = telemetry.RESPONSES.collect()
    return int(
        sum(
            sample.value
            for one in family
            for sample in one.samples
            if sample.name.endswith("_total")
            and sample.labels["status"].startswith("5")
            and _fits(sample.labels, _ORDERS)
        )
    )


def _sum(metric: MetricWrapperBase, suffix: str, labels: Mapping[str, str]) -> int:
    return int(
        sum(
            sample.value
            for family in metric.collect()
            for sample in family.samples
            if sample.name.endswith(suffix) and _fits(sample.labels, labels)
        )
    )


def _fits(labels: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    return wanted.items() <= labels.items()
