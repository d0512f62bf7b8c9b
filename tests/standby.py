"""A primary of a test's own with a streaming standby, which can be stopped, held back and started again."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import servers
from comanda.engines import postgres
from comanda.engines.child import Child, Running, begin, engine_environment, run
from comanda.engines.ports import LOOPBACK, free_port
from comanda.engines.postgres import Postgres
from comanda.engines.privileges import give


@dataclass
class Standby:
    """`stop` and `start` it, `pause` and `resume` what it takes over."""

    engine: Postgres
    running: Running | None = None

    @property
    def url(self) -> str:
        return self.engine.url

    async def start(self) -> None:
        kept = postgres.child(self.engine)
        self.running = Running(kept, await begin(kept), self.engine.url)

    async def stop(self) -> None:
        running, self.running = self.running, None
        if running is not None:
            await running.stop()

    async def pause(self) -> None:
        await servers.execute(self.url, "SELECT pg_wal_replay_pause()")

    async def resume(self) -> None:
        await servers.execute(self.url, "SELECT pg_wal_replay_resume()")


@asynccontextmanager
async def replicated(folder: Path) -> AsyncIterator[tuple[str, Standby]]:
    """The primary's URL, and its standby, which answers."""
    first = postgres.place(folder / "primary")
    kept = postgres.child(first)
    primary = Running(kept, await begin(kept), first.url)
    standby = Standby(
        replace(first, folder=folder / "primary" / "standby", port=free_port(), log=folder / "standby.log")
    )
    try:
        await _copy(first, standby.engine)
        await standby.start()
        yield primary.url, standby
    finally:
        await standby.stop()
        await primary.stop()


async def _copy(primary: Postgres, standby: Postgres) -> None:
    await asyncio.to_thread(standby.folder.mkdir, mode=0o700)
    give(standby.folder, standby.account)
    source = f"host={LOOPBACK} port={primary.port} user={postgres.ROLE} password={primary.password} sslmode=disable"
    command = [str(primary.binaries / "pg_basebackup"), "-D", str(standby.folder), "-d", source, "-R", "-c", "fast"]
    code = await run(
        Child(
            name="pg_basebackup", argv=lambda: command, env=engine_environment(),
            account=standby.account, log=standby.log,
        )
    )  # fmt: skip
    assert code == 0, standby.log.read_text(encoding="utf-8")
