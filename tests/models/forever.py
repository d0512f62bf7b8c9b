"""Runs new random examples of all machines until it is stopped or finds something.

    python tests/models/forever.py [machine …]

Each turn starts on an empty database. What is found is printed with the shortest way there, and the exit code is 1.
"""

import asyncio
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

from comanda import telemetry
from comanda.db import migrations
from comanda.db.database import connect
from comanda.engines import postgres, valkey
from machines import PLANS
from steps import Tally, standing_on


@contextmanager
def engines(folder: Path) -> Iterator[tuple[str, str]]:
    """The URLs of a PostgreSQL and a Valkey."""
    database = asyncio.run(postgres.start(folder / "postgres"))
    try:
        redis = asyncio.run(valkey.start(folder / "valkey"))
        try:
            yield database.url, redis.url
        finally:
            asyncio.run(redis.stop())
    finally:
        asyncio.run(database.stop())


@contextmanager
def empty_database(server_url: str) -> Iterator[str]:
    name = f"m_{uuid4().hex}"
    url = urlunsplit(urlsplit(server_url)._replace(path=f"/{name}"))
    asyncio.run(_execute(server_url, f"CREATE DATABASE {name}"))
    asyncio.run(migrations.apply(url))
    yield url
    asyncio.run(_execute(server_url, f"DROP DATABASE {name} WITH (FORCE)"))


async def _execute(url: str, statement: str) -> None:
    connection = await connect(url, name="forever")
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def explore_forever(database_url: str, redis_url: str, names: Sequence[str]) -> int:
    tallies = {name: Tally() for name in names}
    begun = time.monotonic()

    def stop(*_: object) -> None:
        """Between two steps: nothing is left half done on a connection."""
        for tally in tallies.values():
            tally.is_stopped = True

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    while True:
        for name in names:
            try:
                with empty_database(database_url) as url, standing_on(url, redis_url) as ground:
                    PLANS[name].run(ground, tallies[name])
            except KeyboardInterrupt:
                print(f"stopped; nothing found in {sum(one.steps for one in tallies.values()):,} steps", flush=True)
                return 0
            except BaseException:  # noqa: BLE001 - hypothesis raises what a machine raised, or a group of it
                traceback.print_exc()
                print(f"{name}: FOUND SOMETHING after {tallies[name].steps:,} steps", flush=True)
                return 1
            total = sum(one.steps for one in tallies.values())
            seconds = time.monotonic() - begun
            print(f"{seconds:8,.0f} s  {total:12,} steps  {name}: {tallies[name].steps:,}", flush=True)


def main(names: Sequence[str]) -> int:
    unknown = set(names) - PLANS.keys()
    if unknown:
        print(f"no such machine: {', '.join(sorted(unknown))}; there are: {', '.join(PLANS)}")
        return 2
    telemetry.configure(level="error", directory=None, process="forever")
    with tempfile.TemporaryDirectory() as folder, engines(Path(folder)) as (database_url, redis_url):
        return explore_forever(database_url, redis_url, names or list(PLANS))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
