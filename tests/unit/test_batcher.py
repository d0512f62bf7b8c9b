"""Shared commits: who arrives while one runs shares the next; a poisoned item fails alone."""

import asyncio
from collections.abc import Sequence

import pytest

from comanda.db.batcher import Batcher


class Writer:
    """Writes when it is let, and remembers in what company."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = asyncio.Event()

    async def write(self, items: Sequence[int]) -> Sequence[int | Exception]:
        self.batches.append(list(items))
        await self.gate.wait()
        if -1 in items:
            raise ValueError("poison")
        return [item * 10 for item in items]


async def test_who_arrives_during_a_write_shares_the_next_one() -> None:
    writer = Writer()
    batcher: Batcher[int, int] = Batcher(writer.write, limit=100)
    first = batcher.submit(1)
    await asyncio.sleep(0)
    others = [batcher.submit(n) for n in (2, 3, 4)]
    writer.gate.set()
    assert await asyncio.gather(first, *others) == [10, 20, 30, 40]
    assert writer.batches == [[1], [2, 3, 4]]


async def test_a_batch_that_raises_is_repeated_one_by_one() -> None:
    writer = Writer()
    writer.gate.set()
    batcher: Batcher[int, int] = Batcher(writer.write, limit=100)
    answers = await asyncio.gather(*(batcher.submit(n) for n in (1, -1, 3)), return_exceptions=True)
    assert answers[0] == 10
    assert answers[2] == 30
    assert isinstance(answers[1], ValueError)
    assert writer.batches == [[1, -1, 3], [1], [-1], [3]]


async def test_a_caller_that_goes_away_does_not_cancel_the_write() -> None:
    writer = Writer()
    batcher: Batcher[int, int] = Batcher(writer.write, limit=100)
    gone, stays = batcher.submit(1), batcher.submit(2)
    gone.cancel()
    writer.gate.set()
    assert await stays == 20
    assert writer.batches == [[1, 2]]
    with pytest.raises(asyncio.CancelledError):
        await gone


async def test_who_waited_too_long_is_told_so_and_the_write_goes_on() -> None:
    writer = Writer()
    batcher: Batcher[int, int] = Batcher(writer.write, limit=1, patience=0.02)
    late, behind = batcher.submit(1), batcher.submit(2)
    for one in (late, behind):
        with pytest.raises(TimeoutError, match=r"no answer within 0\.02 s"):
            async with asyncio.timeout(10):  # says something else
                await one
    in_time = batcher.submit(3)
    writer.gate.set()
    assert await in_time == 30
    assert writer.batches == [[1], [2], [3]]


async def test_patience_is_counted_from_each_question() -> None:
    """The timer, set for one who has had an answer since, is set anew for who is next."""
    writer = Writer()
    writer.gate.set()
    batcher: Batcher[int, int] = Batcher(writer.write, limit=100, patience=0.05)
    assert await batcher.submit(1) == 10
    writer.gate.clear()
    loop = asyncio.get_running_loop()
    early = loop.time() + 0.03
    while loop.time() < early:
        await asyncio.sleep(0.005)
    began = loop.time()
    with pytest.raises(TimeoutError, match="no answer within"):
        async with asyncio.timeout(10):  # says something else
            await batcher.submit(2)
    assert loop.time() - began >= 0.045
    writer.gate.set()


async def test_no_batch_is_larger_than_the_limit() -> None:
    writer = Writer()
    writer.gate.set()
    batcher: Batcher[int, int] = Batcher(writer.write, limit=2)
    await asyncio.gather(*(batcher.submit(n) for n in range(5)))
    assert [len(batch) for batch in writer.batches] == [2, 2, 1]


async def test_drain_returns_when_everybody_has_been_answered() -> None:
    writer = Writer()
    batcher: Batcher[int, int] = Batcher(writer.write, limit=100)
    asked = batcher.submit(1)
    writer.gate.set()
    await batcher.drain()
    assert asked.done()


async def test_where_company_came_during_a_write_the_next_one_gathers_until_it_is_enough() -> None:
    writer = Writer()
    batcher: Batcher[int, int] = Batcher(writer.write, limit=100, gather=60)
    first = batcher.submit(1)
    await asyncio.sleep(0)
    others = [batcher.submit(2)]
    writer.gate.set()
    await first
    await asyncio.sleep(0)
    assert writer.batches == [[1]], "it waits for more"
    others += [batcher.submit(n) for n in range(3, 18)]
    await asyncio.gather(*others)
    assert writer.batches == [[1], list(range(2, 18))]


async def test_gathering_ends_in_time() -> None:
    writer = Writer()
    batcher: Batcher[int, int] = Batcher(writer.write, limit=100, gather=0.001)
    first = batcher.submit(1)
    await asyncio.sleep(0)
    second = batcher.submit(2)
    writer.gate.set()
    assert list(await asyncio.gather(first, second)) == [10, 20]


async def test_one_after_the_other_nobody_gathers() -> None:
    writer = Writer()
    writer.gate.set()
    batcher: Batcher[int, int] = Batcher(writer.write, limit=100, gather=60)
    for n in (1, 2, 3):
        assert await asyncio.wait_for(batcher.submit(n), 5) == 10 * n
