"""`comanda up`: everything that Comanda needs in one go: engines, migrations, gateway, relay, workers, API."""

import asyncio
import contextlib
import os
import shutil
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from json import dumps
from pathlib import Path

from rich.console import Console

from comanda.clock import now, rfc3339
from comanda.engines import data_folder, postgres, servers, valkey
from comanda.engines.child import Child, run
from comanda.engines.ports import LOOPBACK, answers, listen, url_of
from comanda.engines.supervisor import Supervisor
from comanda.errors import Fault, GatewayFault, MigrationFault
from comanda.proof.instance import UP_FILE
from comanda.settings import Settings, strangers

COMANDA = (sys.executable, "-m", "comanda")
DRAIN_SECONDS = 30.0


@dataclass(frozen=True)
class _Voice:
    """Speaks to whoever started it: on stderr, and with `--json` one line on stdout."""

    console: Console
    json: bool

    def say(self, text: str, style: str = "") -> None:
        if not self.json:
            self._print(text, style)

    def log(self, event: str) -> None:
        """One line of the log: a sentence for a person, JSON beside the children's for a machine."""
        if self.console.is_terminal and not self.json:
            self._print(f"{now():%H:%M:%S} {event}", "yellow")
        else:
            line = {"timestamp": rfc3339(now()), "level": "warning", "process": "supervisor", "message": event}
            self._print(dumps(line), "")

    def fail(self, text: str) -> None:
        self._print(text, "bold red")

    def _print(self, text: str, style: str) -> None:
        # Nobody may be listening any more, which is no reason to end.
        with contextlib.suppress(OSError, SystemExit):
            self.console.print(text, style=style, markup=False, highlight=False, emoji=False, soft_wrap=True)


@dataclass(frozen=True)
class _Plan:
    settings: Settings
    folder: Path
    program: Sequence[str]
    demo: bool
    api: int
    workers: int
    listener: socket.socket
    gateway: socket.socket | None
    voice: _Voice
    began: float


async def up(
    settings: Settings,
    *,
    host: str,
    port: int,
    data_dir: Path,
    demo: bool,
    api: int,
    workers: int,
    json: bool,
    program: Sequence[str] = COMANDA,
) -> int:
    """Run everything until SIGTERM or Ctrl-C; the exit code. `program` starts a process of Comanda."""
    voice = _Voice(Console(stderr=True), json)
    for stranger in strangers(os.environ):
        voice.log(stranger)
    began = time.monotonic()
    try:
        folder = data_folder.make(data_dir)
        with contextlib.ExitStack() as held:
            held.enter_context(data_folder.locked(folder))
            (folder / UP_FILE).unlink(missing_ok=True)
            listener = held.enter_context(listen(host, port))
            own_gateway = settings.gateway == "mock" and not settings.gateway_url
            gateway = held.enter_context(listen(LOOPBACK, 0)) if own_gateway else None
            plan = _Plan(settings, folder, program, demo, api, workers, listener, gateway, voice, began)
            supervisor = Supervisor(voice.log)
            code = await supervisor.run(lambda: _build(supervisor, plan))
            voice.say("Stopped; nothing is left running.")
            return code
    except Fault as fault:
        voice.fail(str(fault))
        return fault.exit_code
    except PermissionError as refused:
        voice.fail(f"{refused.filename} belongs to another user ({refused.strerror}): choose another --data-dir")
        return 2


async def _build(supervisor: Supervisor, plan: _Plan) -> None:
    """Bring everything up, in the order in which it needs each other."""
    settings, voice = plan.settings, plan.voice
    database_url, redis_url = await _engines(supervisor, plan)
    gateway_url = url_of(plan.gateway) if plan.gateway else settings.gateway_url
    environment, password = _environment(plan, database_url, redis_url, gateway_url)

    def app(name: str, *arguments: str, **more: object) -> Child:
        env = {**environment, "COMANDA_PROCESS_NAME": name}
        argv = [*plan.program, *arguments]
        return Child(name=name, argv=lambda: argv, env=env, stop_timeout=DRAIN_SECONDS, **more)  # type: ignore[arg-type]

    steps = [_migrate(app("migrate", "migrate", *(["--demo"] if plan.demo else [])), voice)]
    if plan.gateway is not None:
        steps.append(supervisor.start(_gateway(app, plan.gateway, plan.folder)))
    await _together(*steps)

    await supervisor.start(app("relay", "relay"))
    await supervisor.start(*(app(f"worker-{n}", "worker") for n in range(1, plan.workers + 1)))
    api_url, descriptor = url_of(plan.listener), plan.listener.fileno()

    async def answers_ready() -> bool:
        return await answers(f"{api_url}/api/v1/health/ready")

    await supervisor.start(
        *(
            app(f"api-{n}", "api", "--fd", str(descriptor), pass_fds=(descriptor,), ready=answers_ready, overlaps=True)
            for n in range(1, plan.api + 1)
        )
    )
    supervisor.publish(
        plan.folder / UP_FILE,
        {"api": api_url, "gateway": gateway_url or None, "databaseUrl": database_url, "redisUrl": redis_url},
    )
    _greet(plan, api_url, gateway_url, password)


async def _engines(supervisor: Supervisor, plan: _Plan) -> tuple[str, str]:
    """PostgreSQL and Redis: those of the settings if they answer, else our own."""
    settings, began = plan.settings, time.monotonic()

    def tell(text: str) -> None:
        plan.voice.say(f"{text[0].upper()}{text[1:]} …")

    own_database = None if settings.database_url else postgres.place(plan.folder)
    own_redis = None if settings.redis_url else valkey.place(plan.folder)
    children = [postgres.child(own_database, tell)] if own_database else []
    children += [valkey.child(own_redis, tell)] if own_redis else []
    waits: list[Awaitable[None]] = [supervisor.start(*children)]
    if own_database is None:
        waits.append(servers.check_postgres(settings.database_url))
    if own_redis is None:
        waits.append(servers.check_redis(settings.redis_url))
    await _together(*waits)
    names = f"{'PostgreSQL 18' if own_database else 'Your PostgreSQL'} and {'Valkey 9' if own_redis else 'your Redis'}"
    plan.voice.say(f"{names} answer ({time.monotonic() - began:.1f} s)")
    return (
        own_database.url if own_database else settings.database_url,
        own_redis.url if own_redis else settings.redis_url,
    )


def _environment(plan: _Plan, database_url: str, redis_url: str, gateway_url: str) -> tuple[dict[str, str], str]:
    """The environment of all children, and the admin's password if it was made up here."""
    settings, made_up = plan.settings, ""
    key, password = settings.secret_key.get_secret_value(), settings.admin_password.get_secret_value()
    if settings.environment == "development":
        key = key or data_folder.secret(plan.folder, "secretKey")
        made_up = "" if password else data_folder.secret(plan.folder, "adminPassword")
    values = {
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "GATEWAY_URL": gateway_url,
        "SECRET_KEY": key,
        "ADMIN_EMAIL": settings.admin_email,
        "ADMIN_PASSWORD": password or made_up,
    }
    # Where the processes count together what any of them answers at /metrics. Counters start at nought with each `up`.
    metrics = plan.folder / "metrics"
    shutil.rmtree(metrics, ignore_errors=True)
    metrics.mkdir()
    shared = {"PROMETHEUS_MULTIPROC_DIR": str(metrics)}
    return {**os.environ, **shared, **{f"COMANDA_{name}": value for name, value in values.items()}}, made_up


async def _migrate(child: Child, voice: _Voice) -> None:
    began = time.monotonic()
    code = await run(child)
    if code != 0:
        raise MigrationFault(f"The migrations failed (exit code {code}): the reason is above")
    voice.say(f"The schema is up to date ({time.monotonic() - began:.1f} s)")


def _gateway(app: Callable[..., Child], listener: socket.socket, folder: Path) -> Child:
    url, descriptor = url_of(listener), listener.fileno()

    async def answers_health() -> bool:
        return await answers(f"{url}/health")

    return app(
        "gateway",
        *("gateway", "--fd", str(descriptor), "--data-dir", str(folder)),
        pass_fds=(descriptor,),
        ready=answers_health,
        fault=GatewayFault,
    )


def _greet(plan: _Plan, api_url: str, gateway_url: str, password: str) -> None:
    voice, settings = plan.voice, plan.settings
    seconds = time.monotonic() - plan.began
    if voice.json:
        facts = {
            "api": api_url,
            "docs": f"{api_url}/api/docs",
            "console": None if settings.console == "off" else f"{api_url}/admin",
            "gateway": gateway_url or None,
            "adminEmail": settings.admin_email,
            "adminPassword": password or None,
            "dataDir": str(plan.folder),
            "seconds": round(seconds, 1),
        }
        with contextlib.suppress(OSError):
            sys.stdout.write(dumps(facts) + "\n")
            sys.stdout.flush()
        return
    voice.say(f"\nComanda runs ({seconds:.1f} s)\n", "bold green")
    voice.say(f"  API          {api_url}/api/v1")
    voice.say(f"  Docs         {api_url}/api/docs")
    if settings.console != "off":
        voice.say(f"  Console      {api_url}/admin")
    voice.say(f"  First login  {settings.admin_email}  {password or '(COMANDA_ADMIN_PASSWORD)'}")
    voice.say(f"  Data         {plan.folder}")
    voice.say("  Stop         Ctrl-C\n")


async def _together(*awaitables: Awaitable[None]) -> None:
    """All of them at once; when one fails, the others are cancelled and waited for."""
    tasks = [asyncio.ensure_future(awaitable) for awaitable in awaitables]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
