"""One process each: what `comanda up` starts, and what production starts by itself."""

import asyncio
import gc
import os
import resource
import signal
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
import typer

from comanda import failpoints, objectives, telemetry, tracing
from comanda.errors import ConfigurationFault, Fault
from comanda.failpoints import Boundary
from comanda.settings import Settings, strangers

ENSURE_ADMIN = Boundary("accounts.ensure_admin")
STOCK_UP = Boundary("demo.stock_up")

_POOL = {"api": 16, "worker": 12, "relay": 8}
_OPEN_FILES = 65_536


@contextmanager
def process(settings: Settings, kind: str) -> Iterator[str]:
    """Logs under the process's name; fewer pauses for garbage than the default has."""
    name = os.environ.get("COMANDA_PROCESS_NAME") or f"{kind}-{os.getpid()}"
    telemetry.configure(level=settings.log_level, directory=settings.log_dir, process=name)
    end_traces = tracing.switch_on(name)
    is_alone = "COMANDA_PROCESS_NAME" not in os.environ  # `comanda up` says it for its children
    for stranger in strangers(os.environ) if is_alone else ():
        telemetry.log(kind).warning(stranger)
    _allow_many_connections()
    _switch_failpoints_on(settings)
    gc.collect()  # what is loaded by now lives for ever
    gc.freeze()
    try:
        yield name
    except Exception as raised:  # noqa: BLE001 - whatever ends a process is a line of the log like any other
        fault = _single(raised)
        if isinstance(fault, Fault):
            telemetry.log(kind).error("ends", error=str(fault))
            raise SystemExit(fault.exit_code) from None
        telemetry.log(kind).critical("ends by a defect", error=repr(fault), exc_info=raised)
        raise SystemExit(1) from None
    finally:
        end_traces()


def _single(raised: Exception) -> Exception:
    """What a task of a group raised, when it was one; a group of several as it is."""
    while isinstance(raised, ExceptionGroup) and len(raised.exceptions) == 1:
        raised = raised.exceptions[0]
    return raised


def _switch_failpoints_on(settings: Settings) -> None:
    if settings.failpoints is not None:
        failpoints.switch_on(settings.failpoints)


def _allow_many_connections() -> None:
    """Each connection is an open file: most shells allow 1,024, and more to a process that asks."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def stopped_by_signal() -> asyncio.Event:
    """Set at SIGTERM and SIGINT."""
    stop = asyncio.Event()
    for which in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(which, stop.set)
    return stop


async def api(settings: Settings, *, host: str, port: int, fd: int | None) -> None:
    """Serve HTTP until SIGTERM; requests that are under way are answered first."""
    from comanda.accounts.tokens import Bearer
    from comanda.api.admission import Admission
    from comanda.api.app import build
    from comanda.api.feed import Feed
    from comanda.api.lists import Lists
    from comanda.api.place_order import PlaceOrderRoute
    from comanda.api.rate_limits import RateLimits
    from comanda.api.serve import Server
    from comanda.assembly import assemble
    from comanda.console import app as console

    key = settings.secret_key.get_secret_value()
    if not key:
        raise ConfigurationFault("COMANDA_SECRET_KEY is not set: it signs the tokens (32 bytes or more)")
    with process(settings, "api") as name:
        # A statement may take no longer than whoever asked is made to wait.
        async with assemble(settings, name=name, pool=_POOL["api"], patience=settings.request_seconds) as assembly:
            admission = Admission(assembly.database, most=settings.max_backlog)
            bearer = Bearer(key)
            route = PlaceOrderRoute(
                assembly.place_order,
                bearer,
                admission,
                needs_verified=settings.require_verified_email == "on",
            )
            stop = asyncio.Event()
            feed = Feed(assembly.database, assembly.streams, is_draining=lambda: server.is_draining)
            rate_limits = RateLimits.of(settings, bearer, assembly.streams)
            lists = Lists(assembly.database, assembly.replica, assembly.streams)
            app = build(
                assembly,
                place_order=route,
                feed=feed,
                lists=lists,
                bearer=bearer,
                rate_limits=rate_limits,
                is_draining=lambda: server.is_draining,
                console=None if settings.console == "off" else console.build,
            )
            server = Server(app, host=host, port=port, fd=fd)
            async with asyncio.TaskGroup() as beside:
                beside.create_task(admission.run(stop))
                beside.create_task(feed.run(stop))
                beside.create_task(lists.run(stop))
                beside.create_task(objectives.keep(assembly.database, settings, stop))
                if rate_limits is not None:
                    beside.create_task(rate_limits.run(stop))
                await server.serve()
                await assembly.place_order.drain()
                stop.set()


async def worker(settings: Settings, queues: Sequence[str]) -> None:
    """Work until SIGTERM; calls that are out come back first."""
    from comanda.assembly import assemble
    from comanda.messaging.queues import QUEUES
    from comanda.saga import throughput
    from comanda.worker import Worker

    unknown = [queue for queue in queues if queue not in QUEUES]
    if unknown or not queues:
        raise ConfigurationFault(f"No such queue: {', '.join(unknown) or '(none)'}. There are {', '.join(QUEUES)}.")
    with process(settings, "worker") as name:
        stop = stopped_by_signal()
        async with assemble(settings, name=name, pool=_POOL["worker"]) as assembly:
            one = Worker(
                assembly.database,
                assembly.streams,
                assembly.sagas,
                name=name,
                queues=queues,
                lease=settings.lease,
                alarm=assembly.alarm,
            )
            async with asyncio.TaskGroup() as beside:
                beside.create_task(objectives.keep(assembly.database, settings, stop))
                beside.create_task(throughput.keep(assembly.database, assembly.sagas, stop))
                await one.run(stop)


async def relay(settings: Settings) -> None:
    """Relay until SIGTERM, and watch the invariants meanwhile."""
    from comanda import relay as relaying
    from comanda.assembly import assemble
    from comanda.payments.gateway import HttpGateway
    from comanda.proof import watch
    from comanda.proof.ledger import NoLedger

    with process(settings, "relay") as name:
        stop = stopped_by_signal()
        async with assemble(settings, name=name, pool=_POOL["relay"]) as assembly, asyncio.TaskGroup() as running:
            running.create_task(relaying.run(assembly, stop))
            if settings.check_seconds:
                books = assembly.gateway if isinstance(assembly.gateway, HttpGateway) else NoLedger("it keeps none")
                running.create_task(watch.run(settings.database_url, books, every=settings.check_seconds, stop=stop))


async def gateway(settings: Settings, *, data_dir: Path, port: int, fd: int | None) -> None:
    """Serve the mock gateway until SIGTERM."""
    from comanda.gateway.serve import serve

    with process(settings, "gateway"):
        listener = socket.socket(fileno=fd) if fd is not None else socket.create_server(("127.0.0.1", port))
        if fd is None:
            typer.echo(f"http://127.0.0.1:{listener.getsockname()[1]}")
        await serve(
            socket=listener,
            data_dir=data_dir / "gateway",
            latency_ms=settings.gateway_latency_ms,
            outcomes=settings.gateway_outcomes,
            seed=settings.gateway_seed,
        )


async def migrate(settings: Settings, *, demo: bool, json: bool) -> None:
    """Bring the schema up to date; the first user; with `demo` a small catalogue."""
    from comanda.accounts import accounts
    from comanda.cli.demo import stock_up
    from comanda.db import Database, migrations

    if not settings.database_url:
        raise ConfigurationFault("COMANDA_DATABASE_URL is not set")
    _switch_failpoints_on(settings)
    ran = await migrations.apply(settings.database_url)
    for one in ran if json else ():
        typer.echo(msgspec.json.encode({"number": one.number, "name": one.name}).decode())
    database = await Database.open(settings.database_url, name="comanda-migrate", size=2)
    try:
        password = settings.admin_password.get_secret_value()
        if password:
            async with database.transaction(ENSURE_ADMIN) as tx:
                await accounts.ensure_admin(tx, settings.admin_email, password)
        if demo:
            async with database.transaction(STOCK_UP) as tx:
                await stock_up(tx)
    finally:
        await database.close()
