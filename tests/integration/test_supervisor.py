"""The supervisor and `comanda up`, with small stand-ins for the processes of Comanda and the real engines."""

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from comanda.engines import data_folder, ports
from comanda.engines.child import Child
from comanda.engines.supervisor import REPLACE, REPLACE_FILE, Supervisor
from comanda.errors import Fault, GatewayFault

SLEEPER = (sys.executable, "-S", "-c", "import time; time.sleep(600)")
# Listens to SIGTERM after a while.
LISTENER = (
    *(sys.executable, "-S", "-c"),
    "import signal, sys, time; time.sleep(0.3); signal.signal(signal.SIGTERM, lambda *_: sys.exit(0)); time.sleep(600)",
)
STUBBORN = (
    *(sys.executable, "-S", "-c"),
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(600)",
)

STAND_INS = len(["migrate", "gateway", "relay", "worker-1", "worker-2", "api-1", "api-2"])

# Answers every request on the inherited socket with 200; writes down how it was called.
STAND_IN = """
import os, pathlib, signal, socket, sys, time
role, *rest = sys.argv[2:]
notes = pathlib.Path(sys.argv[1])
name = os.environ["COMANDA_PROCESS_NAME"]
wanted = ("DATABASE_URL", "REDIS_URL", "GATEWAY_URL", "SECRET_KEY", "ADMIN_EMAIL", "ADMIN_PASSWORD")
def end(*_):
    with (notes / "ended").open("a") as file:
        file.write(name + chr(10))
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
(notes / f"{name}.started").write_text(" ".join([role, *rest, *(os.environ["COMANDA_" + each] for each in wanted)]))
if role == "migrate":
    sys.exit(int(os.environ.get("MIGRATE_EXIT", "0")))
if "--fd" not in rest:
    time.sleep(600)
listener = socket.socket(fileno=int(rest[rest.index("--fd") + 1]))
while True:
    client, _ = listener.accept()
    client.recv(4096)
    client.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n")
    client.close()
"""

DRIVER = """
import pathlib, sys, uvloop
from comanda import settings
from comanda.cli.up import up
folder, port, notes, as_json = sys.argv[1:]
program = (sys.executable, "-S", str(pathlib.Path(notes) / "stand_in.py"), notes)
sys.exit(uvloop.run(up(settings.load(), host="127.0.0.1", port=int(port), data_dir=pathlib.Path(folder), demo=True,
                        api=2, workers=2, json=as_json == "json", program=program)))
"""


@dataclass
class Up:
    process: subprocess.Popen[bytes]
    folder: Path
    notes: Path
    port: int

    @property
    def facts(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.folder / "up.json").read_bytes())
        return content

    def pid(self, name: str) -> int:
        return next(int(each["pid"]) for each in self.facts["processes"] if each["name"] == name)

    def pids(self) -> set[int]:
        """Of everything that it started, their own children too."""
        return {each.pid for each in psutil.Process(self.process.pid).children(recursive=True)}

    def printed(self) -> str:
        return (self.notes / "stderr").read_text()


async def eventually(holds: Callable[[], bool], seconds: float = 15) -> None:
    async with asyncio.timeout(seconds):
        while not holds():
            await asyncio.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def launch(folder: Path, port: int, environment: Mapping[str, str] | None = None, *, as_json: bool = False) -> Up:
    notes = folder.parent / "notes"
    notes.mkdir(exist_ok=True)
    (notes / "stand_in.py").write_text(STAND_IN)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("COMANDA_")}
    with (notes / "stdout").open("w") as stdout, (notes / "stderr").open("w") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-c", DRIVER, str(folder), str(port), str(notes), "json" if as_json else "text"],
            env={**clean, **(environment or {})},
            stdout=stdout,
            stderr=stderr,
        )
    return Up(process, folder, notes, port)


@contextlib.asynccontextmanager
async def ready(folder: Path) -> AsyncIterator[Up]:
    instance = launch(folder, ports.free_port())
    try:
        await eventually(lambda: (folder / "up.json").exists() or instance.process.poll() is not None, 60)
        assert instance.process.poll() is None, instance.printed()
        await eventually(lambda: len(list(instance.notes.glob("*.started"))) == STAND_INS)
        yield instance
    finally:
        if instance.process.poll() is None:
            instance.process.terminate()
        await asyncio.to_thread(instance.process.wait)


async def result(instance: Up) -> tuple[int, str]:
    await asyncio.to_thread(instance.process.wait)
    return instance.process.returncode, instance.printed()


async def test_up_tells_what_runs_and_where(tmp_path: Path) -> None:
    async with ready(tmp_path / "data") as instance:
        facts = instance.facts
        names = [each["name"] for each in facts["processes"]]
        assert sorted(names) == ["api-1", "api-2", "gateway", "postgres", "relay", "valkey", "worker-1", "worker-2"]
        assert all(alive(each["pid"]) for each in facts["processes"])
        assert facts["api"] == f"http://127.0.0.1:{instance.port}"
        assert (instance.folder / "up.json").stat().st_mode & 0o777 == 0o600
        assert await ports.answers(f"{facts['api']}/api/v1/health/ready")
        assert await ports.answers(f"{facts['gateway']}/health")
        migrate = (instance.notes / "migrate.started").read_text().split()
        secrets = json.loads((instance.folder / "secrets.json").read_text())
        assert migrate[:2] == ["migrate", "--demo"]
        assert migrate[2:] == [
            *(facts["databaseUrl"], facts["redisUrl"], facts["gateway"], secrets["secretKey"]),
            *("admin@example.com", secrets["adminPassword"]),
        ]
        await eventually(lambda: "First login" in instance.printed())
        assert secrets["adminPassword"] in instance.printed()
        assert len(instance.printed().splitlines()) <= 15


async def test_sigterm_drains_in_reverse_and_leaves_nothing(tmp_path: Path) -> None:
    async with ready(tmp_path / "data") as instance:
        pids = instance.pids()
        instance.process.terminate()
        code, printed = await result(instance)
        assert code == 0, printed
        assert not [pid for pid in pids if alive(pid)]
        assert not (instance.folder / "up.json").exists()
        ended = [re.sub(r"-\d", "", name) for name in (instance.notes / "ended").read_text().split()]
        assert ended == ["api", "api", "worker", "worker", "relay", "gateway"]


async def test_ctrl_c_reaches_the_supervisor_alone(tmp_path: Path) -> None:
    async with ready(tmp_path / "data") as instance:
        groups = {os.getpgid(pid) for pid in instance.pids()}
        assert os.getpgid(instance.process.pid) not in groups
        instance.process.send_signal(signal.SIGINT)
        assert (await result(instance))[0] == 0


@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells children of the death of their parent")
async def test_kill_9_of_the_supervisor_leaves_nothing_and_the_next_start_works(tmp_path: Path) -> None:
    async with ready(tmp_path / "data") as instance:
        pids = instance.pids()
        instance.process.kill()
        await result(instance)
        await eventually(lambda: not [pid for pid in pids if alive(pid)], 10)
        assert (instance.folder / "up.json").exists()  # nobody was left to remove it
    async with ready(tmp_path / "data") as again:
        assert not pids & again.pids()


async def test_whatever_dies_is_started_again_at_the_same_address(tmp_path: Path) -> None:
    async with ready(tmp_path / "data") as instance:
        before = instance.facts
        for name in ("postgres", "valkey", "gateway", "relay", "worker-1", "api-1", "api-2"):
            old = instance.pid(name)
            os.kill(old, signal.SIGKILL)
            await eventually(lambda name=name, old=old: instance.pid(name) != old)  # type: ignore[misc]
            await eventually(lambda name=name: alive(instance.pid(name)))  # type: ignore[misc]
        after = instance.facts
        assert {key: after[key] for key in after if key != "processes"} == {
            key: before[key] for key in before if key != "processes"
        }
        assert await ports.answers(f"{after['api']}/api/v1/health/ready")
        assert await ports.answers(f"{after['gateway']}/health")
        lines = [json.loads(line)["message"] for line in instance.printed().splitlines() if line.startswith("{")]
        assert [line for line in lines if line.startswith("worker-1: pid ")]
        assert all("SIGKILL" in line and "started again in 0.1 s" in line for line in lines), lines


async def test_one_folder_is_for_one_instance(tmp_path: Path) -> None:
    async with ready(tmp_path / "data") as first:
        second = launch(first.folder, ports.free_port())
        code, printed = await result(second)
        assert code == 2
        assert printed.startswith("Another `comanda up` uses ")
        assert (first.folder / "up.json").exists()


async def test_a_taken_port_is_one_sentence(tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        code, printed = await result(launch(tmp_path / "data", port))
    assert code == 2
    assert printed.splitlines() == [
        f"Nothing can listen on 127.0.0.1:{port} (Address already in use): stop what uses it, or choose another --port"
    ]


@pytest.mark.parametrize(
    "environment",
    [
        {"COMANDA_DATABASE_URL": "postgresql://x:hidden@127.0.0.1:1/x"},
        {"COMANDA_REDIS_URL": "redis://:hidden@127.0.0.1:1/0"},
    ],
)
async def test_a_server_that_does_not_answer_ends_with_4(tmp_path: Path, environment: dict[str, str]) -> None:
    code, printed = await result(launch(tmp_path / "data", 0, environment))
    assert code == 4
    assert f"{next(iter(environment))}: " in printed.splitlines()[-1]
    assert "127.0.0.1:1 does not answer" in printed
    assert "hidden" not in printed


async def test_a_start_that_fails_half_way_leaves_nothing(tmp_path: Path) -> None:
    instance = launch(tmp_path / "data", 0, {"MIGRATE_EXIT": "1"})
    seen: set[int] = set()

    def over() -> bool:
        with contextlib.suppress(psutil.Error):
            seen.update(instance.pids())
        return instance.process.poll() is not None

    await eventually(over, 60)
    code, printed = await result(instance)
    assert code == 1
    assert "The migrations failed (exit code 1)" in printed
    assert seen
    assert not [pid for pid in seen if alive(pid)]


async def test_up_with_json_prints_one_line_for_programs(tmp_path: Path) -> None:
    instance = launch(tmp_path / "data", 0, as_json=True)
    stdout = instance.notes / "stdout"
    await eventually(lambda: stdout.read_text().endswith("\n"), 60)
    line = json.loads(stdout.read_text())
    instance.process.terminate()
    code, printed = await result(instance)
    assert (code, printed) == (0, "")
    assert line["docs"].endswith("/api/docs")
    assert line["console"].endswith("/admin")
    assert line["adminPassword"]


async def supervised(
    body: Callable[[Supervisor], Awaitable[None]],
    log: Callable[[str], None] = lambda _: None,
) -> int:
    supervisor = Supervisor(log)

    async def build() -> None:
        await body(supervisor)
        supervisor.request_stop()

    return await supervisor.run(build)


async def test_restarts_wait_longer_each_time_and_are_never_given_up() -> None:
    lines: list[str] = []

    async def body(supervisor: Supervisor) -> None:
        await supervisor.start(Child(name="brief", argv=lambda: ["false"]))
        await eventually(lambda: len(lines) >= 7)

    assert await supervised(body, lines.append) == 0
    assert all(line.startswith("brief: pid ") and "exit code 1" in line for line in lines)
    pauses = [line.rpartition(" in ")[2] for line in lines]
    assert pauses[:7] == ["0.1 s", "0.2 s", "0.4 s", "0.8 s", "1.6 s", "2.0 s", "2.0 s"]


async def test_a_child_that_is_never_ready_fails_the_start() -> None:
    before = set(psutil.Process().children())  # of other tests: the session's engines

    async def never() -> bool:
        return False

    async def dies(supervisor: Supervisor) -> None:
        await supervisor.start(Child(name="gateway", argv=lambda: ["false"], ready=never, fault=GatewayFault))

    async def hangs(supervisor: Supervisor) -> None:
        await supervisor.start(Child(name="api", argv=lambda: SLEEPER, ready=never, patience=0.2))

    with pytest.raises(GatewayFault, match=r"gateway does not start: pid .* exit code 1"):
        await supervised(dies)
    with pytest.raises(Fault, match="api was not ready after 0 s"):
        await supervised(hangs)
    assert set(psutil.Process().children()) <= before


async def test_a_program_that_is_not_there_fails_the_start() -> None:
    async def body(supervisor: Supervisor) -> None:
        await supervisor.start(Child(name="ghost", argv=lambda: ["/nonexistent/program"]))

    with pytest.raises(Fault, match="ghost can't be started"):
        await supervised(body)


async def test_what_does_not_stop_is_killed(tmp_path: Path) -> None:
    before = set(psutil.Process().children())  # of other tests: the session's engines
    log = tmp_path / "log"
    stubborn = Child(name="stubborn", argv=lambda: STUBBORN, stop_timeout=0.2, log=log)

    async def body(supervisor: Supervisor) -> None:
        await supervisor.start(stubborn)
        await eventually(lambda: log.stat().st_size > 0)

    assert await supervised(body) == 0
    assert set(psutil.Process().children()) <= before


async def test_a_second_signal_kills(tmp_path: Path) -> None:
    before = set(psutil.Process().children())  # of other tests: the session's engines
    log = tmp_path / "log"
    supervisor = Supervisor(lambda _: None)

    async def build() -> None:
        await supervisor.start(Child(name="stubborn", argv=lambda: STUBBORN, stop_timeout=600, log=log))
        await eventually(lambda: log.stat().st_size > 0)
        os.kill(os.getpid(), signal.SIGTERM)

    running = asyncio.ensure_future(supervisor.run(build))
    asyncio.get_running_loop().call_later(1.5, os.kill, os.getpid(), signal.SIGINT)
    assert await asyncio.wait_for(running, 10) == 1
    assert set(psutil.Process().children()) <= before


async def test_the_file_is_current_and_goes_when_the_drain_begins(tmp_path: Path) -> None:
    path = tmp_path / "up.json"

    def pid() -> int:
        number: int = json.loads(path.read_bytes())["processes"][0]["pid"]
        return number

    async def body(supervisor: Supervisor) -> None:
        await supervisor.start(Child(name="sleeper", argv=lambda: SLEEPER))
        supervisor.publish(path, {"api": "http://x"})
        first = pid()
        os.kill(first, signal.SIGKILL)
        await eventually(lambda: pid() != first)
        assert json.loads(path.read_bytes()) == {
            "api": "http://x",
            "pid": os.getpid(),
            "processes": [{"name": "sleeper", "pid": pid()}],
        }

    assert await supervised(body) == 0
    assert not path.exists()


async def test_a_child_makes_way_for_its_successor_once_that_is_at_its_work(tmp_path: Path) -> None:
    path, lines = tmp_path / "up.json", list[str]()
    programs = [LISTENER, LISTENER, ("false",), ("no such program",)]

    def pid() -> int:
        number: int = json.loads(path.read_bytes())["processes"][0]["pid"]
        return number

    def replace() -> None:
        data_folder.replace(tmp_path / REPLACE_FILE, "listener")
        os.kill(os.getpid(), REPLACE)

    async def body(supervisor: Supervisor) -> None:
        await supervisor.start(Child(name="listener", argv=lambda: programs.pop(0), overlaps=True))
        supervisor.publish(path, {})
        first = pid()
        replace()

        def is_replaced() -> bool:
            now = pid()
            assert alive(now)
            return now != first

        await eventually(is_replaced)
        await eventually(lambda: not alive(first))
        assert lines == []
        second = pid()
        replace()
        await eventually(lambda: len(lines) == 1)
        assert lines[0] == f"listener: its successor exit code 1; pid {second} goes on"
        replace()
        await eventually(lambda: len(lines) == 2)
        assert lines[1].startswith("listener is not replaced: ")
        os.kill(os.getpid(), REPLACE)
        await eventually(lambda: len(lines) == 3)
        assert "nothing is replaced" in lines[2]
        assert (pid(), alive(second)) == (second, True)

    assert await supervised(body, lines.append) == 0


async def test_the_lock_goes_with_its_holder(tmp_path: Path) -> None:
    with data_folder.locked(tmp_path):
        pass
    with data_folder.locked(tmp_path), pytest.raises(Fault, match="Another `comanda up`"), data_folder.locked(tmp_path):
        pass
