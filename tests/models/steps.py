"""What all machines share: steps that are counted, and a loop of their own with the real engines."""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test
from hypothesis.strategies import SearchStrategy

from comanda.db import Database, Tx

T = TypeVar("T")
Body = Callable[..., None]
_rule: Any = rule  # its overloads know bundles, and no strategies that are handed on


@dataclass
class Tally:
    """What really ran: `steps` that came to their end, and what was `seen` on the way.

    `is_stopped`: the step that is on its way is the last one.
    """

    steps: int = 0
    is_stopped: bool = False
    seen: Counter[str] = field(default_factory=Counter)


class Machine(RuleBasedStateMachine):
    """A state machine whose steps are counted."""

    def __init__(self, tally: Tally) -> None:
        super().__init__()
        self.tally = tally

    def saw(self, what: str) -> None:
        self.tally.seen[what] += 1


def step(**strategies: SearchStrategy[Any]) -> Callable[[Body], Body]:
    """A rule that counts once it has come to its end, with all that it asserts."""

    def declare(body: Body) -> Body:
        @wraps(body)
        def counted(self: Machine, **drawn: Any) -> None:
            body(self, **drawn)
            self.tally.steps += 1
            if self.tally.is_stopped:
                raise KeyboardInterrupt

        declared: Body = _rule(**strategies)(counted)
        return declared

    return declare


class Ground:
    """The engines that a machine's synchronous steps stand on, and the loop that their connections live in."""

    def __init__(self, loop: asyncio.AbstractEventLoop, database: Database, redis_url: str) -> None:
        self.loop = loop
        self.database = database
        self.redis_url = redis_url

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    def ask(self, statement: str, *arguments: Any) -> Sequence[Any]:
        async def asked() -> Sequence[Any]:
            async with self.database.connection() as tx:
                return list(await tx.fetch(statement, *arguments))

        return self.run(asked())

    def do(self, work: Callable[[Tx], Coroutine[Any, Any, T]]) -> T:
        """In a transaction of its own."""
        return self.run(self.commit(work))

    async def commit(self, work: Callable[[Tx], Coroutine[Any, Any, T]]) -> T:
        async with self.database.transaction() as tx:
            return await work(tx)


@contextmanager
def standing_on(database_url: str, redis_url: str) -> Iterator[Ground]:
    loop = asyncio.new_event_loop()
    try:
        database = loop.run_until_complete(Database.open(database_url, name="models", size=8, least=4))
        try:
            yield Ground(loop, database, redis_url)
        finally:
            loop.run_until_complete(database.close())
            loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()


def explore(made: Callable[[], Machine], *, examples: int, steps: int) -> None:
    """Run new random examples of so many steps each. What they find is raised, with the shortest way there."""
    run_state_machine_as_test(
        made,  # type: ignore[arg-type]  # it is called, and nothing else
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            derandomize=False,
            deadline=None,
            database=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
