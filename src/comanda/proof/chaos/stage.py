"""Where it happens: real engines, a gateway and `comanda up`, with a proxy before each of what `up` needs."""

import asyncio
import json
import os
import secrets
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil

from comanda.db import Tx
from comanda.db.database import connect
from comanda.engines import data_folder, postgres, valkey
from comanda.engines.child import Child
from comanda.engines.ports import LOOPBACK, answers, listen, url_of
from comanda.engines.postgres import Postgres
from comanda.engines.supervisor import Supervisor
from comanda.engines.valkey import AOF_FOLDER, Valkey
from comanda.errors import Fault, GatewayFault, RedisFault
from comanda.proof.chaos.proxy import HttpProxy, PostgresProxy, Proxy
from comanda.proof.instance import UP_FILE
from comanda.proof.receiver import TAKEN, Answer, Heard, Receiver

COMANDA = (sys.executable, "-m", "comanda")
ADMIN = "admin@example.com"
APIS = WORKERS = 2
LEASE_SECONDS = 1
PAYMENT_PATIENCE_SECONDS = 6
SETTINGS: Mapping[str, str] = {
    "LEASE_SECONDS": str(LEASE_SECONDS),
    "RETRY_BASE_SECONDS": "0.8",  # seven tries to give money back take 12 s: longer than faults of the gateway in a row
    "PAYMENT_PATIENCE_SECONDS": str(PAYMENT_PATIENCE_SECONDS),
    "GATEWAY_TIMEOUT_SECONDS": "1.5",
    "WEBHOOK_TIMEOUT_SECONDS": "1.5",
    "GATEWAY_LATENCY_MS": "0-50",
    "GATEWAY_OUTCOMES": "85/10/5",
    "RATE_LIMITS": "off",
    "LOG_LEVEL": "warning",
}
_UP_LOG = "up.log"
_RESTARTED, _BY_US = "started again in", "ended by SIGKILL"
_POLL = 0.02
_PATIENCE = 15.0  # seconds for a process to appear or to be gone
_START_SECONDS = 120.0
_STOP_SECONDS = 60.0


@dataclass
class Stage:
    """The parts by their names, and what can be done to them from outside.

    Args:
        folder: of everything; `up` has a folder of its own in it.
        supervisor: starts again what dies here; what is of `up` is started again by `up`.
        postgres, valkey: the engines behind the proxies.
        receiver: a system of the shop's own that takes webhooks; `heard`: what came there.
        database_link, redis_link, gateway_link, receiver_link: the proxies.
        password: of the admin.
        settings: of every process.
    """

    folder: Path
    supervisor: Supervisor
    postgres: Postgres
    valkey: Valkey
    gateway_url: str
    receiver: Receiver
    heard: Sequence[Heard]
    database_link: PostgresProxy
    redis_link: Proxy
    gateway_link: HttpProxy
    receiver_link: HttpProxy
    password: str = field(repr=False)
    settings: Mapping[str, str] = field(default_factory=lambda: SETTINGS)
    cut_at: float | None = None
    was_cut: int = 0

    @property
    def api(self) -> str:
        """The URL of the API."""
        return str(self._written()["api"])

    @property
    def up_folder(self) -> Path:
        return self.folder / "up"

    @asynccontextmanager
    async def database(self) -> AsyncIterator[Tx]:
        """A connection of our own, past the proxy."""
        connection = await connect(self.postgres.url, name="chaos")
        try:
            yield connection
        finally:
            connection.terminate()

    async def redis(self, command: str) -> str:
        """One command, past the proxy; the first line of its answer.

        Raises:
            RedisFault: it was refused.
        """
        async with asyncio.timeout(5):
            reader, writer = await asyncio.open_connection(LOOPBACK, self.valkey.port)
            try:
                writer.write(f"AUTH {self.valkey.password}\r\n{command}\r\n".encode())
                lines = [(await reader.readline()).decode().strip() for _ in range(2)]
            finally:
                writer.close()
        if not lines[0].startswith("+") or lines[1].startswith("-"):
            raise RedisFault(f"Redis: {lines}")
        return lines[1]

    async def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> int:
        """Kill it and see it dead; the pid that it had."""
        process = await self.living(name)
        process.send_signal(number)
        await _until(lambda: not _is_alive(process), f"{name} (pid {process.pid}) does not die")
        return process.pid

    async def freeze(self, name: str) -> psutil.Process:
        """SIGSTOP, and see it stand still."""
        process = await self.living(name)
        process.suspend()
        await _until(lambda: process.status() == psutil.STATUS_STOPPED, f"{name} does not stand still")
        return process

    async def living(self, name: str) -> psutil.Process:
        """The process of that name, waited for if it is just being started again."""
        found: list[psutil.Process] = []

        def is_there() -> bool:
            pid = self._pids().get(name)
            try:
                process = psutil.Process(pid) if pid else None
            except psutil.NoSuchProcess:
                return False
            if process is None or not _is_alive(process):
                return False
            found.append(process)
            return True

        await _until(is_there, f"there is no {name}")
        return found[-1]

    def noticed(self) -> list[str]:
        """What the logs tell that nobody did on purpose: deadlocks, and processes that ended by themselves."""
        deadlocks = self.postgres.log.read_text(errors="replace").count("deadlock detected")
        found = [f"PostgreSQL broke up {deadlocks} deadlocks"] if deadlocks else []
        lines = (self.folder / "logs" / _UP_LOG).read_text(errors="replace").splitlines()
        restarts = (json.loads(line)["message"] for line in lines if _RESTARTED in line and line.startswith("{"))
        return found + [restart for restart in restarts if _BY_US not in restart]

    def _pids(self) -> dict[str, int]:
        ours = {str(one["name"]): int(str(one["pid"])) for one in self.supervisor.processes()}
        return ours | {one["name"]: one["pid"] for one in self._written().get("processes", [])}

    def _written(self) -> dict[str, Any]:
        try:
            facts: dict[str, Any] = json.loads((self.up_folder / UP_FILE).read_bytes())
        except FileNotFoundError:
            return {}
        return facts

    def _cut_file(self) -> None:
        """Before Valkey starts again, if it is asked for: the newest append-only file ends at a random byte."""
        if self.cut_at is None:
            return
        chance, self.cut_at = self.cut_at, None
        files = sorted((self.valkey.folder / AOF_FOLDER).glob("*.incr.aof"), key=lambda path: path.stat().st_mtime)
        if files and (size := files[-1].stat().st_size):
            os.truncate(files[-1], int(size * chance))
            self.was_cut = size - int(size * chance)

    def children(self, gateway: Child) -> list[Child]:
        """What is started first."""
        engine = valkey.child(self.valkey)

        async def prepare() -> None:
            self._cut_file()
            await engine.prepare()

        return [postgres.child(self.postgres), replace(engine, prepare=prepare), gateway]


@asynccontextmanager
async def staged(
    folder: Path,
    supervisor: Supervisor,
    told: Callable[[str], None],
    *,
    settings: Mapping[str, str] = SETTINGS,
    apis: int = APIS,
    workers: int = WORKERS,
) -> AsyncIterator[Stage]:
    """Start everything in this folder; the proxies end with the block, the processes with the supervisor.

    Args:
        folder: empty.
        supervisor: of the engines, the gateway and `up`.
        told: gets a sentence about what starts.
        settings: of every process, without their prefix.
        apis: API processes.
        workers: worker processes.

    Raises:
        Fault: a part does not start.
    """
    root = data_folder.make(folder)
    async with AsyncExitStack() as stack:
        listener = stack.enter_context(listen(LOOPBACK, 0))
        database, index = postgres.place(root), valkey.place(root)
        gateway_url = url_of(listener)
        gateway_port = int(listener.getsockname()[1])
        heard: list[Heard] = []
        receiver = await stack.enter_async_context(Receiver(_keeping(heard)))
        stage = Stage(
            root,
            supervisor,
            database,
            index,
            gateway_url,
            receiver,
            heard,
            PostgresProxy(lambda: (LOOPBACK, database.port), name="postgres"),
            Proxy(lambda: (LOOPBACK, index.port), name="redis"),
            HttpProxy(lambda: (LOOPBACK, gateway_port), name="gateway"),
            HttpProxy(lambda: (LOOPBACK, receiver.port), name="receiver"),
            secrets.token_urlsafe(18),
            settings,
        )
        ports = []
        for link in (stage.database_link, stage.redis_link, stage.gateway_link, stage.receiver_link):
            ports.append(await link.start())
            stack.push_async_callback(link.stop)
        told("PostgreSQL, Valkey and the gateway start")
        await supervisor.start(*stage.children(_gateway(root, listener.fileno(), gateway_url, settings)))
        told("comanda up starts")
        urls = {
            "DATABASE_URL": replace(database, port=ports[0]).url,
            "REDIS_URL": replace(index, port=ports[1]).url,
            "GATEWAY_URL": f"http://{LOOPBACK}:{ports[2]}",
            "ADMIN_EMAIL": ADMIN,
            "ADMIN_PASSWORD": stage.password,
        }
        await supervisor.start(_up(stage, urls, apis, workers))
        yield stage


def _keeping(heard: list[Heard]) -> Answer:
    async def keep(one: Heard) -> int:
        heard.append(one)
        return TAKEN

    return keep


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Nothing of the shell's own settings, and these."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("COMANDA_")}
    return {**clean, **{f"COMANDA_{name}": value for name, value in settings.items()}}


def _gateway(root: Path, descriptor: int, url: str, settings: Mapping[str, str]) -> Child:
    async def answers_health() -> bool:
        return await answers(f"{url}/health")

    argv = [*COMANDA, "gateway", "--fd", str(descriptor), "--data-dir", str(root)]
    return Child(
        name="gateway",
        argv=lambda: argv,
        env=environment({**settings, "PROCESS_NAME": "gateway"}),
        log=root / "logs" / "gateway.log",
        pass_fds=(descriptor,),
        ready=answers_health,
        fault=GatewayFault,
    )


def _up(stage: Stage, urls: Mapping[str, str], apis: int, workers: int) -> Child:
    argv = [*COMANDA, "up", "--port", "0", "--api", str(apis), "--workers", str(workers), "--json"]
    argv += ["--data-dir", str(stage.up_folder)]

    async def has_written() -> bool:
        return (stage.up_folder / UP_FILE).exists()

    return Child(
        name="up",
        argv=lambda: argv,
        env=environment({**stage.settings, **urls}),
        log=stage.folder / "logs" / _UP_LOG,
        ready=has_written,
        stop_timeout=_STOP_SECONDS,
        patience=_START_SECONDS,
    )


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def _until(holds: Callable[[], bool], otherwise: str) -> None:
    clock = asyncio.get_running_loop().time
    deadline = clock() + _PATIENCE
    while not holds():
        if clock() > deadline:
            raise Fault(otherwise)
        await asyncio.sleep(_POLL)
