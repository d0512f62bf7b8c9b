"""The program, and its commands that stand alone: the processes, and what is done to all of it."""

from pathlib import Path
from typing import Annotated

import typer
import uvloop

from comanda import __version__, settings
from comanda.cli import processes
from comanda.messaging.queues import QUEUES

app = typer.Typer(
    name="comanda",
    help="A headless order engine: accepts an order in milliseconds, never loses one, never charges twice.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

LONGEST = 1_000_000
"""Hours that are looked back at the most: more than a century."""
DataDir = Annotated[Path, typer.Option("--data-dir", help="Where everything is kept.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]


@app.callback(invoke_without_command=True)
def root(version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False) -> None:
    """Options of every command."""
    if version:
        typer.echo(__version__)
        raise typer.Exit


@app.command("up")
def up_command(
    host: Annotated[str, typer.Option(help="Address of the API.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the API; all others are chosen free.")] = 8000,
    data_dir: DataDir = Path(".comanda"),
    demo: Annotated[bool, typer.Option("--demo", help="With a small catalogue to try orders on.")] = False,
    api: Annotated[int, typer.Option(min=1, max=64, help="API processes.")] = 1,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Worker processes.")] = 2,
    json: Json = False,
) -> None:
    """Everything in one: engines, migrations, gateway, relay, workers, API."""
    from comanda.cli import up

    known = settings.load()
    code = uvloop.run(
        up.up(known, host=host, port=port, data_dir=data_dir, demo=demo, api=api, workers=workers, json=json)
    )
    raise typer.Exit(code)


@app.command("api")
def api_command(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535)] = 8000,
    fd: Annotated[
        int | None, typer.Option(help="A listening socket that was inherited; instead of host and port.")
    ] = None,
) -> None:
    """One API process."""
    uvloop.run(processes.api(settings.load(), host=host, port=port, fd=fd))


@app.command("worker")
def worker_command(
    queues: Annotated[str, typer.Option(help="Which queues, separated by commas.")] = ",".join(QUEUES),
) -> None:
    """One worker process."""
    uvloop.run(processes.worker(settings.load(), [name.strip() for name in queues.split(",") if name.strip()]))


@app.command("relay")
def relay_command() -> None:
    """One relay: moves events on, hints at what is due."""
    uvloop.run(processes.relay(settings.load()))


@app.command("gateway")
def gateway_command(
    data_dir: DataDir = Path(".comanda"),
    port: Annotated[int, typer.Option(min=0, max=65535)] = 0,
    fd: Annotated[int | None, typer.Option(help="A listening socket that was inherited; instead of a port.")] = None,
) -> None:
    """The mock payment gateway: a service of its own, with its own ledger."""
    uvloop.run(processes.gateway(settings.load(), data_dir=data_dir, port=port, fd=fd))


@app.command("restart")
def restart_command(
    only: Annotated[str | None, typer.Option(help="Only these: api, worker or relay, or one by its name.")] = None,
    data_dir: DataDir = Path(".comanda"),
    json: Annotated[bool, typer.Option("--json", help="NDJSON on stdout.")] = False,
) -> None:
    """Restart the processes of a running `comanda up`, one after the other, without a failed request."""
    from comanda.cli import restart

    uvloop.run(restart.restart(data_dir, only=only, json=json))


@app.command("migrate")
def migrate_command(
    demo: Annotated[bool, typer.Option("--demo", help="Add a small catalogue.")] = False,
    json: Json = False,
) -> None:
    """Bring the schema up to date; make the first user."""
    uvloop.run(processes.migrate(settings.load(), demo=demo, json=json))


@app.command("doctor")
def doctor_command(
    data_dir: Annotated[Path | None, typer.Option("--data-dir", help="Of a running `comanda up`.")] = None,
    since: Annotated[
        float | None, typer.Option(min=0, max=LONGEST, help="Only orders of the last so many hours.")
    ] = None,
    repair: Annotated[bool, typer.Option("--repair", help="Propose what would mend it; nothing is applied.")] = False,
    json: Json = False,
) -> None:
    """Check every invariant on the live database and the gateway's ledger; exit code 3 when one is broken."""
    from comanda.cli import doctor

    code = uvloop.run(doctor.doctor(settings.load(), data_dir=data_dir, since_hours=since, json=json, repair=repair))
    raise typer.Exit(code)


@app.command("reconcile")
def reconcile_command(
    since: Annotated[float, typer.Option(min=0, max=LONGEST, help="Orders of the last so many hours; 0: all.")] = 24,
    until: Annotated[float, typer.Option(min=0, max=LONGEST, help="Without those of the last so many hours.")] = 0,
    timeout: Annotated[float, typer.Option(min=1, max=86_400, help="Seconds, then it is given up.")] = 300,
    data_dir: Annotated[Path | None, typer.Option("--data-dir", help="Of a running `comanda up`.")] = None,
    json: Json = False,
) -> None:
    """Compare payments and refunds with the gateway's ledger; exit code 3 when they differ."""
    from comanda.cli import reconcile

    code = uvloop.run(
        reconcile.reconcile(
            settings.load(), data_dir=data_dir, since_hours=since, until_hours=until, patience=timeout, json=json
        )
    )
    raise typer.Exit(code)


@app.command("load")
def load_command(
    orders: Annotated[int | None, typer.Option(min=1, help="How many; 100, or all baskets of the week.")] = None,
    rate: Annotated[float, typer.Option(min=0, help="Orders a second; 0: as fast as they are accepted.")] = 0.0,
    customers: Annotated[int | None, typer.Option(min=1, help="Who order; 10, or 50 for a data set.")] = None,
    products: Annotated[int, typer.Option(min=1, help="Made up, when there is no data set.")] = 50,
    stock: Annotated[int, typer.Option(min=0, help="Units of each product that is new.")] = 1_000_000,
    connections: Annotated[int, typer.Option(min=1, max=1000, help="Requests under way at the most.")] = 64,
    patience: Annotated[float, typer.Option(min=1, help="Seconds without an end, then the rest is given up.")] = 120.0,
    methods: Annotated[str, typer.Option(help="pm_success=80,pm_flaky_1=20; none: the gateway decides.")] = "",
    seed: Annotated[int | None, typer.Option(min=0, help="The same seed orders the same.")] = None,
    dataset: Annotated[str | None, typer.Option(help="completejourney: real baskets.")] = None,
    week: Annotated[int, typer.Option(min=1, max=53, help="Of the data set.")] = 52,
    url: Annotated[str | None, typer.Option(help="Of the API; else that of the data folder.")] = None,
    data_dir: Annotated[Path | None, typer.Option("--data-dir", help="Of a running `comanda up`.")] = None,
    json: Json = False,
) -> None:
    """Drive a running instance: place orders, follow each to its end, check every total."""
    from comanda.cli import load

    options = load.Options(
        orders=orders, rate=rate, customers=customers, products=products, stock=stock, connections=connections,
        patience=patience, methods=methods, seed=seed, dataset=dataset, week=week, url=url, data_dir=data_dir,
    )  # fmt: skip
    raise typer.Exit(uvloop.run(load.load(settings.load(), options, json=json)))


@app.command("chaos")
def chaos_command(
    seed: Annotated[int | None, typer.Option(min=0, help="The same seed hurts the same; else one is drawn.")] = None,
    orders: Annotated[int, typer.Option(min=1, help="How many.")] = 1000,
    duration: Annotated[float | None, typer.Option(min=5, help="Seconds of load; else as they fit.")] = None,
    faults: Annotated[int | None, typer.Option(min=1, help="How many; else as they fit.")] = None,
    report: Annotated[Path | None, typer.Option(help="Write a page with the timeline to this file.")] = None,
    data_dir: Annotated[Path | None, typer.Option("--data-dir", help="An empty folder; else a temporary one.")] = None,
    json: Json = False,
) -> None:
    """Hurt an instance of its own under load, and judge it by its ledgers; exit code 3 when a promise is broken."""
    from comanda.cli import chaos

    options = chaos.Options(
        seed=seed, orders=orders, duration=duration, faults=faults, report=report, data_dir=data_dir
    )  # fmt: skip
    raise typer.Exit(uvloop.run(chaos.chaos(options, json=json)))


@app.command("failure-matrix", hidden=True)
def failure_matrix_command(
    only: Annotated[list[str] | None, typer.Option(help="A scenario by its name; may be given often.")] = None,
    out: Annotated[Path, typer.Option(help="The page; its results are kept beside it.")] = Path("docs/failures.md"),
    json: Json = False,
) -> None:
    """Cause each failure on an instance of its own, measure the recovery, write the page."""
    from comanda.cli import failure_matrix

    raise typer.Exit(uvloop.run(failure_matrix.failure_matrix(only or [], out, json=json)))
