"""The embedded engines themselves: real servers, hurt in the ways in which machines hurt them."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import asyncpg
import psutil
import pytest
import redis.asyncio

from comanda.engines import child, data_folder, ports, postgres, servers, valkey
from comanda.engines.child import Running
from comanda.errors import ConfigurationFault, DatabaseFault, RedisFault

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="Linux tells children of the death of their parent")


@contextlib.asynccontextmanager
async def running(start: Callable[[], object]) -> AsyncIterator[Running]:
    engine = await start()  # type: ignore[misc]
    try:
        yield engine
    finally:
        await engine.stop()


def a_postgres(folder: Path) -> contextlib.AbstractAsyncContextManager[Running]:
    return running(lambda: postgres.start(folder))


def a_valkey(folder: Path) -> contextlib.AbstractAsyncContextManager[Running]:
    return running(lambda: valkey.start(folder))


async def ask(url: str, statement: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


async def command(url: str, *words: str) -> object:
    client = redis.asyncio.Redis.from_url(url)
    try:
        return await client.execute_command(*words)  # type: ignore[no-untyped-call]
    finally:
        await client.aclose()


async def eventually(holds: Callable[[], bool], seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not holds():
            await asyncio.sleep(0.02)


def kill(engine: Running) -> None:
    engine.process.kill()
    engine.process.wait()


def settled_pid(folder: Path) -> int:
    return int((folder / "postgres" / "postmaster.pid").read_text().split("\n", 1)[0])


async def test_postgres_keeps_its_data_and_its_password(tmp_path: Path) -> None:
    async with a_postgres(tmp_path) as first:
        await ask(first.url, "CREATE TABLE kept AS SELECT 42 AS answer")
    async with a_postgres(tmp_path) as second:
        assert await ask(second.url, "SELECT answer FROM kept") == 42
        assert second.url.split("@")[0] == first.url.split("@")[0]


async def test_postgres_is_as_durable_as_any_other(tmp_path: Path) -> None:
    expected = {
        "fsync": "on",
        "synchronous_commit": "on",
        "full_page_writes": "on",
        "data_checksums": "on",
        "server_encoding": "UTF8",
        "shared_buffers": "256MB",
        "max_connections": "200",
        "max_wal_size": "2GB",
        "listen_addresses": "127.0.0.1",
        "password_encryption": "scram-sha-256",
        "shared_preload_libraries": "pg_stat_statements",
    }
    async with a_postgres(tmp_path) as engine:
        assert {name: await ask(engine.url, f"SHOW {name}") for name in expected} == expected
        assert await ask(engine.url, "SELECT lower('ÀÉÑ')") == "àéñ"
        with pytest.raises(asyncpg.InvalidPasswordError):
            await ask(engine.url.replace(engine.url.split(":")[2].split("@")[0], "guess"), "SELECT 1")


@as_root
async def test_engines_never_run_as_root_even_below_a_closed_folder(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    async with a_postgres(closed / "data") as one, a_valkey(closed / "data") as other:
        assert await ask(one.url, "SELECT 1") == 1
        assert await command(other.url, "PING")
        assert psutil.Process(one.pid).uids().effective != 0
        assert psutil.Process(other.pid).uids().effective != 0
        assert closed.stat().st_mode & 0o777 == 0o700
        assert (closed / "data").stat().st_uid == 0


async def test_what_was_committed_survives_kill_9(tmp_path: Path) -> None:
    engine = await postgres.start(tmp_path)
    await ask(engine.url, "CREATE TABLE kept AS SELECT 42 AS answer")
    kill(engine)
    async with a_postgres(tmp_path) as again:
        assert await ask(again.url, "SELECT answer FROM kept") == 42


async def test_backends_that_outlive_their_postmaster_are_waited_for(tmp_path: Path) -> None:
    engine = await postgres.start(tmp_path)
    # A backend that computes does not notice the death of its postmaster.
    busy = asyncio.ensure_future(ask(engine.url, "SELECT count(*) FROM generate_series(1, 12000000)"))
    place = tmp_path / "postgres"
    await eventually(lambda: _runs_a_select(engine.pid))
    kill(engine)
    assert postgres.at_work(place)
    async with a_postgres(tmp_path) as again:
        assert await ask(again.url, "SELECT 1") == 1
    with contextlib.suppress(asyncpg.PostgresError, OSError):
        await busy


def _runs_a_select(postmaster: int) -> bool:
    with contextlib.suppress(psutil.Error):
        return any("SELECT" in " ".join(each.cmdline()) for each in psutil.Process(postmaster).children())
    return False


async def test_a_postmaster_that_still_runs_is_asked_to_stop(tmp_path: Path) -> None:
    orphan = await postgres.start(tmp_path)
    await ask(orphan.url, "CREATE TABLE kept AS SELECT 42 AS answer")
    async with a_postgres(tmp_path) as again:
        assert orphan.process.poll() == 0  # shut down by itself, not killed
        assert settled_pid(tmp_path) == again.pid
        assert await ask(again.url, "SELECT answer FROM kept") == 42


async def test_a_pid_file_with_the_pid_of_another_program_is_no_obstacle(tmp_path: Path) -> None:
    engine = await postgres.start(tmp_path)
    kill(engine)
    pid_file = tmp_path / "postgres" / "postmaster.pid"
    with subprocess.Popen(["sleep", "600"]) as other:  # noqa: ASYNC220 - takes no time
        pid_file.write_text(pid_file.read_text().replace(str(engine.pid), str(other.pid), 1))
        async with a_postgres(tmp_path) as again:
            assert await ask(again.url, "SELECT 1") == 1
        assert other.poll() is None
        other.kill()


async def test_an_initdb_that_was_cut_short_is_done_again(tmp_path: Path) -> None:
    half = tmp_path / "postgres.new"
    half.mkdir()
    (half / "PG_VERSION").write_text("18\n")
    async with a_postgres(tmp_path) as engine:
        assert await ask(engine.url, "SELECT 1") == 1
    assert not half.exists()


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind((ports.LOOPBACK, 0))
        listener.listen()
        yield listener.getsockname()[1]


async def test_a_taken_port_is_exchanged(tmp_path: Path, taken: int) -> None:
    one, other = postgres.place(tmp_path), valkey.place(tmp_path)
    one.port = other.port = taken
    for kept in (postgres.child(one), valkey.child(other)):
        await child.stop(kept, await child.begin(kept))
    assert taken not in {one.port, other.port}


async def test_data_of_another_major_version_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "postgres"
    folder.mkdir()
    (folder / "PG_VERSION").write_text("15\n")
    with pytest.raises(ConfigurationFault, match="made by PostgreSQL 15"):
        await postgres.start(tmp_path)


async def test_lost_secrets_are_named(tmp_path: Path) -> None:
    async with a_postgres(tmp_path):
        pass
    (tmp_path / data_folder.SECRETS).unlink()
    with pytest.raises(ConfigurationFault, match=r"secrets\.json does not hold the password"):
        await postgres.start(tmp_path)


async def test_secrets_are_for_the_owner_alone(tmp_path: Path) -> None:
    first = data_folder.secret(tmp_path, "one")
    assert data_folder.secret(tmp_path, "two") != first
    assert data_folder.secret(tmp_path, "one") == first
    assert (tmp_path / data_folder.SECRETS).stat().st_mode & 0o777 == 0o600


async def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationFault, match="can't be written"):
        await postgres.start(tmp_path / "file" / "data")


async def test_valkey_keeps_what_it_acknowledged_after_kill_9(tmp_path: Path) -> None:
    engine = await valkey.start(tmp_path)
    await command(engine.url, "SET", "kept", "42")
    kill(engine)
    async with a_valkey(tmp_path) as again:
        assert await command(again.url, "GET", "kept") == b"42"
        assert again.url.split("@")[0] == engine.url.split("@")[0]


def cut_the_end(aof: Path) -> None:
    file = next(aof.glob("*.incr.aof"))
    os.truncate(file, file.stat().st_size - 7)


def cut_the_middle(aof: Path) -> None:
    file = next(aof.glob("*.incr.aof"))
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 3] + content[len(content) // 2 :])


def overwrite_the_middle(aof: Path) -> None:
    file = next(aof.glob("*.incr.aof"))
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2] + b"\0" * 200 + content[len(content) // 2 + 200 :])


def cut_the_base(aof: Path) -> None:
    file = next(aof.glob("*.base.rdb"))
    os.truncate(file, file.stat().st_size // 2)


def break_the_base(aof: Path) -> None:
    file = next(aof.glob("*.base.rdb"))
    file.write_bytes(b"\xff" * file.stat().st_size)


def lose_the_base(aof: Path) -> None:
    next(aof.glob("*.base.rdb")).unlink()


def empty_the_manifest(aof: Path) -> None:
    os.truncate(next(aof.glob("*.manifest")), 0)


def break_the_manifest(aof: Path) -> None:
    next(aof.glob("*.manifest")).write_text("file seq type\n")


HURTS = [
    cut_the_end,
    cut_the_middle,
    overwrite_the_middle,
    cut_the_base,
    break_the_base,
    lose_the_base,
    empty_the_manifest,
    break_the_manifest,
]


@pytest.mark.parametrize("hurt", HURTS)
async def test_valkey_starts_whatever_happened_to_its_file(tmp_path: Path, hurt: Callable[[Path], None]) -> None:
    async with a_valkey(tmp_path) as engine:
        for number in range(50):
            await command(engine.url, "XADD", "stream", "*", "id", str(number))
    hurt(tmp_path / "valkey" / valkey.AOF_FOLDER)
    async with a_valkey(tmp_path) as again:
        assert await command(again.url, "XADD", "stream", "*", "id", "new")
    async with a_valkey(tmp_path) as third:
        assert int(str(await command(third.url, "XLEN", "stream"))) >= 1


@on_linux
@pytest.mark.parametrize("engine", ["postgres", "valkey"])
async def test_an_engine_ends_when_its_parent_is_killed(tmp_path: Path, engine: str) -> None:
    program = (
        f"import asyncio, pathlib, sys, time\nfrom comanda.engines import {engine}\n"
        f"running = asyncio.run({engine}.start(pathlib.Path(sys.argv[1])))\nprint(running.pid, flush=True)\n"
        "time.sleep(600)"
    )
    command_line = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(command_line, stdout=subprocess.PIPE, text=True) as parent:  # noqa: ASYNC220 - takes no time
        assert parent.stdout is not None
        pid = int(await asyncio.to_thread(parent.stdout.readline))
        assert psutil.pid_exists(pid)
        parent.kill()
    await eventually(lambda: not alive(pid))


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def test_servers_that_answer_are_accepted(tmp_path: Path) -> None:
    async with a_postgres(tmp_path) as one, a_valkey(tmp_path) as other:
        await servers.check_postgres(one.url)
        await servers.check_redis(other.url)


async def test_servers_that_refuse_or_do_not_answer_are_named_without_their_password(tmp_path: Path) -> None:
    port = ports.free_port()
    with pytest.raises(DatabaseFault, match=f"127.0.0.1:{port} does not answer") as silent:
        await servers.check_postgres(f"postgresql://me:hidden@127.0.0.1:{port}/x", patience=0.3)
    with pytest.raises(RedisFault, match=f"127.0.0.1:{port} does not answer") as mute:
        await servers.check_redis(f"redis://:hidden@127.0.0.1:{port}/0", patience=0.3)
    async with a_postgres(tmp_path) as one, a_valkey(tmp_path) as other:
        with pytest.raises(DatabaseFault, match="refuses it"):
            await servers.check_postgres(f"postgresql://comanda:hidden@{one.url.split('@')[1]}")
        with pytest.raises(RedisFault, match="refuses it"):
            await servers.check_redis(f"redis://:hidden@{other.url.split('@')[1]}")
    assert "hidden" not in f"{silent.value} {mute.value}"


async def test_an_engine_may_be_stopped_from_another_event_loop(tmp_path: Path) -> None:
    engine = await asyncio.to_thread(lambda: asyncio.run(valkey.start(tmp_path)))
    await engine.stop()
    assert engine.process.returncode in {0, -signal.SIGTERM}
