"""`comanda up` as a user runs it: real processes in a folder, driven over HTTP, signals and the command line."""

import asyncio
import contextlib
import inspect
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import psutil

COMANDA = (sys.executable, "-m", "comanda")
ADMIN, PASSWORD = "admin@example.com", "correct horse battery"
OPEN = ("PENDING", "PROCESSING", "PAYMENT_PENDING", "PAYMENT_FAILED")
PATIENCE = 120.0  # seconds: two noisy cores
START_SECONDS = 120.0
STOP_SECONDS = 60.0
_POLL = 0.05

FAST = {
    "ADMIN_PASSWORD": PASSWORD,
    "GATEWAY_LATENCY_MS": "0",
    "GATEWAY_OUTCOMES": "100/0/0",
    "RETRY_BASE_SECONDS": "0.2",
    "LEASE_SECONDS": "1",
    "RATE_LIMITS": "off",
    "REQUEST_SECONDS": "20",  # where its patience is not the subject: the machine may be busy
}


async def eventually(holds: Callable[[], Awaitable[object] | object], seconds: float = PATIENCE) -> None:
    """Poll until it holds; a TimeoutError says that it never did."""
    async with asyncio.timeout(seconds):
        while True:
            answer = holds()
            if await answer if inspect.isawaitable(answer) else answer:
                return
            await asyncio.sleep(_POLL)


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Nothing of the shell's own settings, and these."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("COMANDA_")}
    clean.pop("PYTHONDONTWRITEBYTECODE", None)  # a thousand processes would compile the same files again
    clean["SSL_CERT_FILE"] = os.devnull  # nobody's certificate is judged here; reading all of them takes a start 0.1 s
    return {**clean, **{f"COMANDA_{name}": value for name, value in settings.items()}}


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str

    @property
    def rows(self) -> list[dict[str, Any]]:
        """What `--json` prints: an object a line."""
        return [json.loads(line) for line in self.out.splitlines()]


async def comanda(*arguments: str, **settings: str) -> Ran:
    """Run a command to its end."""
    process = await asyncio.create_subprocess_exec(
        *COMANDA, *arguments, env=environment(settings), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        async with asyncio.timeout(PATIENCE):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return Ran(process.returncode or 0, out.decode(), err.decode())


@dataclass(frozen=True)
class Reply:
    status: int
    body: Any
    headers: Mapping[str, str]


class Visitor:
    """Somebody who is signed in."""

    def __init__(self, session: aiohttp.ClientSession, api: str, identity: Mapping[str, Any]) -> None:
        self.api = api
        self.id: str = identity["user"]["id"]
        self.email: str = identity["user"]["email"]
        self.headers = {"Authorization": f"Bearer {identity['accessToken']}"}
        self.session = session

    async def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Reply:
        """One request under `/api/v1`; `Idempotency_Key` names the header `Idempotency-Key`."""
        sent = self.headers | {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.session.request(method, f"{self.api}/api/v1{path}", json=body, headers=sent) as response:
            is_json = response.content_type.endswith("json")
            return Reply(response.status, await (response.json() if is_json else response.text()), response.headers)

    async def get(self, path: str) -> Any:
        reply = await self.ask("GET", path)
        assert reply.status == 200, reply
        return reply.body

    async def made(self, path: str, body: Any, **headers: str) -> Any:
        """The body of a POST that was not refused."""
        reply = await self.ask("POST", path, body, **headers)
        assert reply.status in {200, 201, 202}, reply
        return reply.body

    async def product(self, *, price: int = 1250, stock: int = 1000) -> str:
        """A product with stock; its id."""
        product = await self.made("/products", {"name": "Coffee", "sku": uuid4().hex, "price": price})
        await self.made("/inventory", {"productId": product["id"], "initialStock": stock})
        return str(product["id"])

    async def order(self, *products: str, method: str | None = "pm_success", **headers: str) -> str:
        """Place an order of one unit of each; its id."""
        return str((await self.made("/orders", basket(*products, method=method), **headers))["orderId"])

    async def status(self, order_id: str) -> dict[str, Any]:
        found: dict[str, Any] = await self.get(f"/orders/{order_id}/status")
        return found

    async def ended(self, *order_ids: str, seconds: float = PATIENCE) -> list[dict[str, Any]]:
        """Wait for the end of these orders; their last statuses, in that order."""
        found: dict[str, dict[str, Any]] = {}

        async def all_of_them() -> bool:
            for one in await asyncio.gather(*(self.status(each) for each in order_ids if each not in found)):
                if one["status"] not in OPEN:
                    found[one["orderId"]] = one
            return len(found) == len(set(order_ids))

        await eventually(all_of_them, seconds)
        return [found[each] for each in order_ids]

    async def orders(self, *statuses: str) -> list[dict[str, Any]]:
        """All orders that this visitor may see, page by page."""
        found: list[dict[str, Any]] = []
        query, cursor = "".join(f"&status={one}" for one in statuses), ""
        while True:
            page = await self.get(f"/orders?limit=100{query}{cursor}")
            found += page["items"]
            if page["nextCursor"] is None:
                return found
            cursor = f"&cursor={page['nextCursor']}"

    async def all_ended(self, seconds: float = PATIENCE) -> None:
        """Wait until no order that this visitor may see is under way."""

        async def nothing_is_open() -> bool:
            query = "&".join(f"status={one}" for one in OPEN)
            return not (await self.get(f"/orders?limit=1&{query}"))["items"]

        await eventually(nothing_is_open, seconds)

    async def stock(self, product: str) -> tuple[int, int, int]:
        """Physical, reserved, available."""
        found = await self.get(f"/inventory/product/{product}")
        return found["physicalStock"], found["reservedStock"], found["availableStock"]


def basket(*products: str, method: str | None = "pm_success") -> dict[str, Any]:
    """The body of an order of one unit of each."""
    body: dict[str, Any] = {"items": [{"productId": product, "quantity": 1} for product in products]}
    return body | ({} if method is None else {"paymentMethod": method})


class Up:
    """A `comanda up`. What it prints goes to files beside its folder."""

    def __init__(self, folder: Path, *options: str, **settings: str) -> None:
        self.folder = folder
        self._options = options
        self._settings = {**FAST, **settings}
        self._sessions: list[aiohttp.ClientSession] = []
        self._start = 0
        self.process = self._launched()

    def _launched(self) -> subprocess.Popen[bytes]:
        _allow_many_connections()
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        # With the few open files that most shells allow.
        command = ["sh", "-c", 'ulimit -S -n 1024; exec "$@"', "sh"]
        command += [*COMANDA, "up", "--port", "0", "--data-dir", str(self.folder), *self._options]
        with self._file("out").open("ab") as out, self._file("err").open("ab") as err:
            self._start = self._file("err").stat().st_size
            return subprocess.Popen(command, env=environment(self._settings), stdout=out, stderr=err)

    def _file(self, kind: str) -> Path:
        return self.folder.with_name(f"{self.folder.name}.{kind}")

    def printed(self) -> str:
        """On stderr, since the last start; the processes' log lines too."""
        return self._file("err").read_bytes()[self._start :].decode()

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not (self.folder / "up.json").exists():
            assert self.process.poll() is None, self.printed()
            assert time.monotonic() < deadline, self.printed()
            time.sleep(_POLL)

    def again(self) -> None:
        """Start it on the same folder, once it is gone."""
        assert self.process.poll() is not None
        (self.folder / "up.json").unlink(missing_ok=True)
        self.process = self._launched()
        self.wait_until_ready()

    @property
    def facts(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.folder / "up.json").read_bytes())
        return content

    @property
    def api(self) -> str:
        return str(self.facts["api"])

    @property
    def processes(self) -> dict[str, int]:
        return {one["name"]: one["pid"] for one in self.facts["processes"]}

    def pids(self) -> set[int]:
        """Of itself and of everything that it started, their own children too."""
        family = psutil.Process(self.process.pid).children(recursive=True)
        return {self.process.pid, *(one.pid for one in family), *self.processes.values()}

    def kill(self, name: str) -> int:
        """kill -9 of one process; the pid that it had."""
        pid = self.processes[name]
        os.kill(pid, signal.SIGKILL)
        return pid

    def terminate(self) -> int:
        """SIGTERM; the exit code."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            return self.process.wait(STOP_SECONDS)
        finally:
            if self.process.poll() is None:
                self.process.kill()

    async def stop(self) -> int:
        """SIGTERM; the exit code."""
        await self.leave()
        return await asyncio.to_thread(self.terminate)

    async def leave(self) -> None:
        """Close the connections of everybody who signed in."""
        while self._sessions:
            await self._sessions.pop().close()

    def session(self) -> aiohttp.ClientSession:
        """A client with as many connections as it likes, closed by `leave`."""
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=PATIENCE)
        )
        self._sessions.append(session)
        return session

    async def signed_in(self, email: str = ADMIN, password: str = PASSWORD) -> Visitor:
        """Sign in; the first user is an admin."""
        return await self._let_in("login", {"email": email, "password": password})

    async def registered(self, **fields: str) -> Visitor:
        """A new customer."""
        usual = {"email": f"{uuid4().hex}@example.com", "password": PASSWORD, "firstName": "Ana", "lastName": "Ruiz"}
        return await self._let_in("register", {**usual, **fields})

    async def _let_in(self, how: str, body: Mapping[str, str]) -> Visitor:
        session, api = self.session(), self.api
        async with session.post(f"{api}/api/v1/auth/{how}", json=body) as response:
            assert response.status < 300, await response.text()
            return Visitor(session, api, await response.json())

    async def ledger(self) -> dict[str, list[dict[str, Any]]]:
        """The gateway's own ledger, by order."""
        lines: dict[str, list[dict[str, Any]]] = {}
        async with aiohttp.ClientSession() as session, session.get(f"{self.facts['gateway']}/ledger") as response:
            assert response.status == 200
            for line in await response.json():
                lines.setdefault(line["orderId"], []).append(line)
        return lines

    async def metrics(self) -> dict[str, float]:
        """Each sample at /metrics by its name and labels, as they are written there."""
        async with aiohttp.ClientSession() as session, session.get(f"{self.api}/metrics") as response:
            assert response.status == 200
            text = await response.text()
        pairs = (line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))
        return {name: float(value) for name, value in pairs}

    async def comanda(self, *arguments: str) -> Ran:
        """Run a command on this instance."""
        return await comanda(*arguments, "--data-dir", str(self.folder))


def lines_of(printed: str) -> list[dict[str, Any]]:
    """Log lines; each has the fields that all have."""
    lines = [json.loads(line) for line in printed.splitlines()]
    for line in lines:
        assert {"timestamp", "level", "message", "process"} <= line.keys(), line
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", line["timestamp"]), line
    return lines


def captured(lines: Iterable[Mapping[str, Any]]) -> int:
    """What an order's lines of the ledger leave with the gateway, in minor units."""
    return sum(line["amount"] if line["type"] == "capture" else -line["amount"] for line in lines)


def captures(lines: Iterable[Mapping[str, Any]]) -> int:
    """How often money was taken."""
    return sum(line["type"] == "capture" for line in lines)


@contextlib.asynccontextmanager
async def running(folder: Path, *options: str, **settings: str) -> AsyncIterator[Up]:
    """`comanda up` in this folder, ended at the end."""
    up = Up(folder, *options, **settings)
    try:
        await asyncio.to_thread(up.wait_until_ready)
        yield up
    finally:
        await up.stop()


def _allow_many_connections() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 8192 if hard == resource.RLIM_INFINITY else min(hard, 8192)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
