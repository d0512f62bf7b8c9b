"""One scenario: an instance of its own, the failure, the ledgers at the end."""

import asyncio
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import aiohttp

from comanda.engines.supervisor import Supervisor
from comanda.errors import Fault
from comanda.proof.chaos import judge
from comanda.proof.chaos.judge import Case
from comanda.proof.chaos.run import all_ended, read, ready
from comanda.proof.chaos.stage import staged
from comanda.proof.load.client import Api
from comanda.proof.matrix import pager
from comanda.proof.matrix.results import Row
from comanda.proof.matrix.scenario import COMMON, Outcome, Scenario
from comanda.proof.matrix.scene import DEMAND, Scene

_REQUEST_SECONDS = 10.0
_TESTS_SECONDS = 580.0
_ROOT = Path(__file__).parents[4]  # of the repository, where the tests are
_HAS_TESTS = (_ROOT / "tests").is_dir()

Told = Callable[[str], None]


async def perform(scenario: Scenario, told: Told) -> Row:
    """Cause it, measure, judge. Whatever goes wrong is a missed target, with the reason."""
    began, at = time.monotonic(), datetime.now(UTC)
    broken: list[str] = []
    if scenario.later:
        outcome = Outcome("-", scenario.later, None)
    elif scenario.skipped:
        outcome = Outcome("-", scenario.skipped, None)
    elif scenario.tests:
        outcome = await _tested(scenario)
    else:
        outcome, broken = await _staged(scenario, told)
    return Row.of(scenario, outcome, broken, at=at, seconds=time.monotonic() - began)


async def _staged(scenario: Scenario, told: Told) -> tuple[Outcome, list[str]]:
    outcome, ledgers = Outcome("-", "it was interrupted", is_met=False), ""
    broken: list[str] = []
    restarts: list[str] = []
    supervisor = Supervisor(restarts.append)
    faults: list[BaseException] = []
    try:
        async with _folder(scenario.disk) as folder:

            async def everything() -> None:
                nonlocal outcome, ledgers, broken
                try:
                    async with _scene(scenario, folder, supervisor, restarts, told) as scene:
                        told("running")
                        assert scenario.run is not None
                        try:
                            outcome = await scenario.run(scene)
                        except (Fault, AssertionError) as fault:
                            outcome = Outcome("-", f"the scenario ended early: {fault}", is_met=False)
                        told("waiting until all orders have ended")
                        ledgers, broken = await _judged(scene)
                except Exception as fault:  # noqa: BLE001 - raised again below, when nothing runs any more
                    faults.append(fault)
                finally:
                    supervisor.request_stop()

            await supervisor.run(everything)
            if broken or faults:
                _keep(folder, scenario, told)
    except _NoDisk as why:
        return Outcome("-", str(why), None), []
    if faults:
        return Outcome("-", f"{type(faults[0]).__name__}: {faults[0]}", is_met=False), broken
    return replace(outcome, measured=f"{outcome.measured}; {ledgers}"), broken


@asynccontextmanager
async def _scene(
    scenario: Scenario, folder: Path, supervisor: Supervisor, restarts: list[str], told: Told
) -> AsyncIterator[Scene]:
    retried: Counter[str] = Counter()
    timeout = aiohttp.ClientTimeout(total=_REQUEST_SECONDS, sock_connect=2)
    connector = aiohttp.TCPConnector(limit=1000)
    jar = aiohttp.DummyCookieJar()
    async with pager.listening() as bell:
        settings = {**COMMON, "ALERT_WEBHOOK_URL": bell.url, **scenario.settings}
        shape = {"settings": settings, "apis": scenario.apis, "workers": scenario.workers}
        async with (
            staged(folder, supervisor, told, **shape) as stage,  # type: ignore[arg-type]
            aiohttp.ClientSession(connector=connector, timeout=timeout, cookie_jar=jar) as session,
        ):
            told("stocking up")
            api = Api(session, stage.api, retried)
            buyers = await ready(api, DEMAND, stage.password, customers=scenario.customers)
            retried.clear()
            yield Scene(stage, session, buyers, bell, retried, restarts, told)


async def _judged(scene: Scene) -> tuple[str, list[str]]:
    """Nobody is left without an answer; all ends; the ledgers are compared. What they say, and what does not fit."""
    buyers = scene.buyers
    await asyncio.gather(*(buyers.persist(one) for one in buyers.asked if not one.answers and not one.refusal))
    await all_ended(scene.stage, time.time())
    books, findings = await read(scene.stage)
    units = {buyers.shelf[sku].id: count for sku, count in DEMAND.units.items()}
    verdicts = judge.judge(Case(buyers.asked, books, units))
    broken = [f"{one.name}: {one.count} ({one.wrong[0]})" for one in verdicts if not one.is_kept]
    broken += [
        f"{one.name}: {one.count or one.status}"
        for one in findings
        if one.status == "failed" or (one.status == "unknown" and one.note)
    ]
    accepted = sum(bool(one.answers) for one in buyers.asked)
    for sentence in scene.stage.noticed():
        scene.told(f"noticed: {sentence}")
    return f"{accepted:,} orders accepted, {'0 lost, 0 twice' if not broken else 'the ledgers do not fit'}", broken


class _NoDisk(Exception):
    """No file system of its own can be had here."""


@asynccontextmanager
async def _folder(disk: int) -> AsyncIterator[Path]:
    """An empty folder; with `disk` MiB on a file system of its own."""
    folder = _made()
    try:
        if not disk:
            yield folder
            return
        mount = ["mount", "-t", "tmpfs", "-o", f"size={disk}m,mode=755", "comanda", str(folder)]
        try:
            subprocess.run(mount, check=True, capture_output=True)  # noqa: S603, ASYNC221
        except (OSError, subprocess.CalledProcessError):
            raise _NoDisk("needs a small file system of its own: mounting one is allowed to root only") from None
        try:
            yield folder
        finally:
            subprocess.run(["umount", "-l", str(folder)], check=False)  # noqa: S603, S607, ASYNC221
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _made() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="comanda-failure-"))
    folder.chmod(0o755)
    return folder


def _keep(folder: Path, scenario: Scenario, told: Told) -> None:
    """The logs of what broke."""
    kept = Path(tempfile.gettempdir()) / f"comanda-failure-{scenario.name}-{time.time():.0f}"
    shutil.copytree(folder / "logs", kept / "logs", dirs_exist_ok=True)
    told(f"broken: its logs are kept in {kept}")


async def _tested(scenario: Scenario) -> Outcome:
    """By tests of the repository."""
    if not _HAS_TESTS:
        return Outcome("-", "the tests are not installed with the package: run it from the repository", None)
    argv = [sys.executable, "-m", "pytest", "-n", "0", *scenario.tests]
    process = await asyncio.create_subprocess_exec(*argv, cwd=_ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        out, _ = await asyncio.wait_for(process.communicate(), _TESTS_SECONDS)
    except TimeoutError:
        process.kill()
        await process.wait()
        return Outcome("-", f"the tests had not ended after {_TESTS_SECONDS:g} s", is_met=False)
    last = out.decode(errors="replace").strip().splitlines()[-1].strip("= ")
    return Outcome("-", last, is_met=process.returncode == 0)
