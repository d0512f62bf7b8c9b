"""Sagas of six stored steps, without HTTP: Comanda's engine against one at a time by hand, DBOS and Restate, in turn.

    make peers; python benchmarks/sagas.py [--runs 3] [--sagas 10000]

The steps do nothing, so this is what storing them costs. Ours are carried twice: as the engine does it with neighbours
of one queue, a batch through all six steps in one transaction, and with each step in a transaction of its own, as the
others do it, but for a whole batch at once (`sagas_each_…`). By hand: a transaction for each step, which locks the
saga, moves it and writes its history. DBOS: a workflow of six steps on the same PostgreSQL, through its queue. Restate:
a handler of six stored steps, called by 64 clients at once; its server keeps its own files. Prints two JSON lines for
each of them.
"""

import argparse
import asyncio
import contextlib
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import asyncpg
import programs
from harness import Stand, comanda_up, made_folder, report, say
from rivals import PEERS, PYTHON, has_npm, has_python, spent, version

ENGINE = str(Path(__file__).with_name("engine_alone.py"))
STEPS = 6
CLIENTS = 64


async def by_hand(database_url: str, sagas: int) -> float:
    """As a careful programmer writes it, one order at a time; sagas a second."""
    connection = await asyncpg.connect(database_url)
    await connection.execute(
        "CREATE TABLE IF NOT EXISTS by_hand (id uuid PRIMARY KEY, state text NOT NULL, step int NOT NULL,"
        " updated_at timestamptz NOT NULL DEFAULT now());"
        "CREATE TABLE IF NOT EXISTS by_hand_steps (saga uuid NOT NULL, step int NOT NULL, outcome text NOT NULL,"
        " at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (saga, step))"
    )
    rows = await connection.fetch(
        "INSERT INTO by_hand (id, state, step) SELECT gen_random_uuid(), 'RUNNING', 0 FROM generate_series(1, $1::int)"
        " RETURNING id",
        sagas,
    )
    began = time.monotonic()
    for row in rows:
        for step in range(1, STEPS + 1):
            async with connection.transaction():
                await connection.fetchrow("SELECT state, step FROM by_hand WHERE id = $1 FOR UPDATE", row["id"])
                await connection.execute(
                    "INSERT INTO by_hand_steps (saga, step, outcome) VALUES ($1, $2, 'done')", row["id"], step
                )
                await connection.execute(
                    "UPDATE by_hand SET step = $2, state = $3, updated_at = now() WHERE id = $1",
                    row["id"], step, "COMPLETED" if step == STEPS else "RUNNING",
                )  # fmt: skip
    rate = sagas / (time.monotonic() - began)
    await connection.execute("DROP TABLE by_hand, by_hand_steps")
    await connection.close()
    return rate


async def _made(stand: Stand, name: str) -> str:
    connection = await asyncpg.connect(stand.database_url)
    await connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
    await connection.execute(f"CREATE DATABASE {name}")
    await connection.close()
    head, _, query = stand.database_url.partition("?")
    return f"{head.rpartition('/')[0]}/{name}" + (f"?{query}" if query else "")


def dbos(stand: Stand, sagas: int) -> float:
    """Workflows a second, in a new database on the same server."""
    url = asyncio.run(_made(stand, "dbos_benchmark"))
    return sagas / spent([str(PYTHON), "dbos_sagas.py", url, str(sagas), str(STEPS)])["carry"]


def _free() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@contextlib.contextmanager
def restate() -> Iterator[str]:
    """A Restate server with the saga's service; where requests go in."""
    ingress, admin, node, service = (_free() for _ in range(4))
    folder = made_folder("comanda-restate-")
    environment = {
        **programs.clean(),
        "RESTATE_BASE_DIR": str(folder),
        "RESTATE_BIND_ADDRESS": f"127.0.0.1:{node}",
        "RESTATE_ADVERTISED_ADDRESS": f"http://127.0.0.1:{node}",
        "RESTATE_INGRESS__BIND_ADDRESS": f"127.0.0.1:{ingress}",
        "RESTATE_ADMIN__BIND_ADDRESS": f"127.0.0.1:{admin}",
        "RESTATE_DISABLE_TELEMETRY": "true",
        "RUST_LOG": "error",
    }
    commands = (
        [str(PEERS / "node_modules" / ".bin" / "restate-server")],
        [str(PYTHON), "-m", "hypercorn", "restate_sagas:app", "--bind", f"127.0.0.1:{service}"],
    )
    processes: list[subprocess.Popen[bytes]] = []
    try:
        with (folder / "said.log").open("wb") as log:
            processes.extend(
                subprocess.Popen(command, env=environment, cwd=PEERS, stdout=log, stderr=log) for command in commands
            )
        asyncio.run(_registered(admin, service))
        yield f"http://127.0.0.1:{ingress}"
    finally:
        for process in processes:
            programs.end(process, patience=30)
        shutil.rmtree(folder, ignore_errors=True)


async def _registered(admin: int, service: int) -> None:
    deadline = time.monotonic() + 60
    async with aiohttp.ClientSession() as session:
        while True:
            try:
                body = {"uri": f"http://127.0.0.1:{service}"}
                async with session.post(f"http://127.0.0.1:{admin}/deployments", json=body) as answer:
                    if answer.status < 300:
                        return
            except aiohttp.ClientError:
                pass
            if time.monotonic() > deadline:
                raise SystemExit("Restate did not start within a minute")
            await asyncio.sleep(0.2)


async def through_restate(ingress: str, sagas: int) -> float:
    """Sagas a second, each awaited by its client."""
    left = iter(range(sagas))

    async def client(session: aiohttp.ClientSession) -> None:
        for _ in left:
            async with session.post(f"{ingress}/benchmark/saga", json=STEPS) as answer:
                if answer.status != 200:
                    raise SystemExit(f"Restate answers {answer.status}: {await answer.text()}")

    began = time.monotonic()
    async with aiohttp.ClientSession() as session:
        await asyncio.gather(*(client(session) for _ in range(CLIENTS)))
    return sagas / (time.monotonic() - began)


def carried(stand: Stand, sagas: int, *, each: bool = False) -> float:
    """Ours a second, begun within the time as theirs are. `each`: every step in a transaction of its own."""
    command = [sys.executable, ENGINE, stand.database_url, stand.redis_url, str(sagas), str(STEPS)]
    took = spent([*command, "each"] if each else command)
    expected = STEPS if each else 1
    if took["fewest"] < expected:
        sys.exit(f"a saga took {took['fewest']} commits, not {expected}")
    return sagas / (took["begin"] + took["carry"])


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--runs", type=int, default=3)
    arguments.add_argument("--sagas", type=int, default=10_000)
    asked = arguments.parse_args()
    has_peers = has_python()
    ours: dict[str, list[float]] = {"sagas": [], "sagas_each": []}
    hand: list[float] = []
    rivals: dict[str, list[float]] = {"dbos": [], "restate": []}
    with contextlib.ExitStack() as stack:
        stand = stack.enter_context(comanda_up("--workers", "1", GATEWAY="instant"))
        ingress = ""
        if has_peers and has_npm("@restatedev/restate-server"):
            ingress = stack.enter_context(restate())
            asyncio.run(through_restate(ingress, 200))
        for number in range(1, asked.runs + 1):
            for name, rates in ours.items():
                rates.append(carried(stand, asked.sagas, each=name == "sagas_each"))
            hand.append(asyncio.run(by_hand(stand.database_url, asked.sagas // 20)))
            if has_peers:
                rivals["dbos"].append(dbos(stand, asked.sagas // 50))
            if ingress:
                rivals["restate"].append(asyncio.run(through_restate(ingress, asked.sagas // 20)))
            say(f"run {number}", **{name: rates[-1] for name, rates in ours.items()})
            say("  in turn", hand=hand[-1], dbos=rivals["dbos"][-1:], restate=rivals["restate"][-1:])
    for name, rates in ours.items():
        commits = STEPS if name == "sagas_each" else 1
        conditions = {"sagas": asked.sagas, "steps": STEPS, "commits of each": commits, "worker processes": 1}
        report(f"{name}_by_hand", rates, hand, 15, **conditions, reference="one at a time, by hand")
        if rivals["dbos"]:
            theirs = f"DBOS {version('dbos')}, one process"
            report(f"{name}_dbos", rates, rivals["dbos"], 100, **conditions, reference=theirs)
        if rivals["restate"]:
            theirs = f"Restate {version('@restatedev/restate-server')}, 64 clients"
            report(f"{name}_restate", rates, rivals["restate"], 30, **conditions, reference=theirs)


if __name__ == "__main__":
    main()
