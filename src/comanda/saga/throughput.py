"""How much the workers do in each queue: by the minute, added up from what each of them counts."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from prometheus_client import Counter

from comanda import telemetry
from comanda.db import Database, Tx, twin
from comanda.errors import DependencyFault
from comanda.failpoints import Boundary
from comanda.resilience.loops import loop
from comanda.saga.definition import Saga

COUNT = Boundary("throughput.count")

_sql = twin(__file__)
ADD = _sql["add"]
OF_HOUR = _sql["of_hour"]
FORGET = _sql["forget"]

_EVERY = 5.0  # seconds; what a worker did in them is not counted when it is killed
_DONE = frozenset({"done", "refused"})


@dataclass(frozen=True, slots=True)
class Did:
    """Attempts that came to something, that failed, and the seconds that both took."""

    done: int = 0
    failed: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Throughput:
    """Attempts in a queue: in the last whole minute, in the last hour, how many of these failed, what all took."""

    queue: str
    last_minute: int
    last_hour: int
    failed: int
    seconds: float

    @property
    def failed_share(self) -> float | None:
        return self.failed / self.last_hour if self.last_hour else None

    @property
    def mean_ms(self) -> float | None:
        return self.seconds * 1000 / self.last_hour if self.last_hour else None


class Counted:
    """What this process has done since it last said so."""

    def __init__(self, sagas: Iterable[Saga]) -> None:
        self._queue_of = {(saga.name, step.name): step.queue for saga in sagas for step in saga.steps}
        self._said = self._counts()

    def news(self) -> dict[str, Did]:
        """By queue; only where there was anything."""
        news = {}
        for queue, now in self._counts().items():
            said = self._said.get(queue, Did())
            if now.done + now.failed > said.done + said.failed:
                news[queue] = Did(now.done - said.done, now.failed - said.failed, now.seconds - said.seconds)
        return news

    def told(self, news: Mapping[str, Did]) -> None:
        """That much has been written down."""
        for queue, one in news.items():
            said = self._said.get(queue, Did())
            self._said[queue] = Did(said.done + one.done, said.failed + one.failed, said.seconds + one.seconds)

    def _counts(self) -> dict[str, Did]:
        counts: dict[str, Did] = {}
        for labels, value in _samples(telemetry.STEP_ATTEMPTS):
            queue = self._queue_of.get((labels["kind"], labels["step"]))
            if queue is not None and (labels["outcome"] in _DONE or labels["outcome"] == "failed"):
                one, is_done = counts.get(queue, Did()), labels["outcome"] in _DONE
                counts[queue] = Did(
                    one.done + int(value * is_done), one.failed + int(value * (not is_done)), one.seconds
                )
        for labels, value in _samples(telemetry.STEP_SECONDS):
            queue = self._queue_of.get((labels["kind"], labels["step"]))
            if queue is not None:
                one = counts.get(queue, Did())
                counts[queue] = Did(one.done, one.failed, one.seconds + value)
        return counts


def _samples(metric: Counter) -> Sequence[tuple[Mapping[str, str], float]]:
    return [
        (sample.labels, sample.value)
        for family in metric.collect()
        for sample in family.samples
        if sample.name.endswith("_total")
    ]


async def keep(database: Database, sagas: Iterable[Saga], stop: asyncio.Event) -> None:
    """Write down what this process does, until told to stop; and the rest then."""
    counted = Counted(sagas)

    async def write() -> bool:
        news = counted.news()
        if news:
            async with database.connection(COUNT) as tx:
                await add(tx, news)
            counted.told(news)
        return False

    await loop("throughput", write, stop=stop, every=_EVERY)
    with suppress(DependencyFault):
        await write()


async def add(tx: Tx, news: Mapping[str, Did]) -> None:
    """To this minute."""
    some = list(news.values())
    await ADD.run(
        tx, list(news), [one.done for one in some], [one.failed for one in some], [one.seconds for one in some]
    )


async def of_hour(tx: Tx) -> list[Throughput]:
    """Of each queue."""
    return [Throughput(**dict(row)) for row in await OF_HOUR.rows(tx)]


async def forget(tx: Tx) -> None:
    """What is older than a day."""
    await FORGET.run(tx)
