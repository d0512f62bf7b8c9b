"""Commands as scripts use them: --json has the documented shapes; what goes wrong is a sentence."""

import asyncio
import os
import signal
import socket
import subprocess
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from comanda.cli import reference, shapes
from up import COMANDA, FAST, Ran, Up, Visitor, comanda, environment, eventually

NOBODY = "00000000-0000-7000-8000-00000000dead"
ELSEWHERE = {"up", "load", "chaos", "webhooks listen"}  # long ones: their own tests look at them
# tests/integration/test_bulk_commands.py looks at what these print.
ON_MANY = {"bulk list", "bulk resume", "bulk show", "bulk stop", "dead-letters edit", "dead-letters show"}
VERBS = {"compensate", "resolve", "retry", "skip"}  # as those of `saga`


def told(name: str, ran: Ran) -> list[msgspec.Struct]:
    """Each line as one of the shapes of that command, no field unknown or missing."""
    kinds: Sequence[type[msgspec.Struct]] = shapes.OF[name]
    found = []
    for line in ran.out.splitlines():
        fits = [one for one in kinds if _is(one, line)]
        assert fits, (name, line)
        found.append(msgspec.json.decode(line, type=fits[0]))
    return found


def _is(kind: type[msgspec.Struct], line: str) -> bool:
    try:
        read: Any = msgspec.json.decode(line, type=kind)
    except msgspec.ValidationError:
        return False
    return type(read) is kind


async def test_what_each_command_prints_has_its_documented_shape(up: Up, admin: Visitor, tmp_path: Path) -> None:
    product = await admin.product()
    order = await admin.order(product, method="pm_decline_CARD_STOLEN")
    await admin.ended(order)
    hook = (await admin.made("/webhooks", {"url": "http://127.0.0.1:9/x", "eventTypes": ["OrderCreated"]}))["id"]
    hooked = await admin.order(product)
    await admin.ended(hooked)
    file = tmp_path / "stock.csv"
    file.write_text("sku,quantity\nno-such-thing,1\n")

    async def is_sent() -> bool:
        return bool((await up.comanda("webhooks", "deliveries", hook, "--json")).out)

    await eventually(is_sent)
    queue, reason = "inventory-management", ("--reason", "a look")
    asked: dict[str, tuple[int, Sequence[str], int]] = {  # how many lines at least, arguments, exit code
        "audit list": (1, (), 0),
        "dead-letters list": (0, ("--all",), 0),
        "dead-letters redrive": (0, ("--all", *reason), 0),
        "doctor": (1, ("--repair",), 0),
        "explain": (10, (order,), 0),
        "import": (1, ("stock", str(file), "--dry-run"), 1),
        "orders show": (10, (order,), 0),
        "queue jobs": (0, (queue,), 0),
        "queue limit": (1, (queue, "0", *reason), 0),
        "queue list": (4, (), 0),
        "queue pause": (1, (queue, *reason), 0),
        "queue resume": (1, (queue, *reason), 0),
        "reconcile": (1, (), 0),
        "restart": (1, ("--only", "relay"), 0),
        "saga compensate": (1, (order, *reason), 1),
        "saga list": (1, (), 0),
        "saga resolve": (1, (order, *reason), 1),
        "saga retry": (1, (NOBODY, *reason), 1),
        "saga show": (5, (order,), 0),
        "saga skip": (1, (order, *reason), 1),
        "stuck": (0, (), 0),
        "webhooks deliveries": (1, (hook,), 0),
        "webhooks list": (1, (), 0),
        "webhooks redeliver": (0, (hook, "--since", "1", *reason), 0),
    }
    try:
        for name, (least, arguments, code) in sorted(asked.items()):
            if name == "audit list":
                continue  # at the end, when there is something
            ran = await up.comanda(*name.split(), *arguments, "--json")
            assert (ran.code, len(told(name, ran)) >= least) == (code, True), (name, ran)
            assert "Traceback" not in ran.err
        ran = await up.comanda("audit", "list", "--json")
        assert len(told("audit list", ran)) >= asked["audit list"][0]
    finally:
        await up.comanda("queue", "resume", queue, "--reason", "a test")
        await admin.ask("DELETE", f"/webhooks/{hook}")
    migrated = await comanda("migrate", "--json", DATABASE_URL=up.facts["databaseUrl"])
    assert (migrated.code, migrated.out) == (0, ""), "nothing was left to migrate"
    silent = shapes.SILENT | {"migrate"}
    assert dict(reference.commands()).keys() == asked.keys() | ELSEWHERE | ON_MANY | VERBS | silent
    ready = up.folder.with_name(f"{up.folder.name}.out").read_text()
    assert told("up", Ran(0, ready, ""))


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("saga", "show", NOBODY), 1, "There is no saga of"),
        (("explain", NOBODY), 1, "There is no order"),
        (("queue", "jobs", "nonsense"), 2, "There are order-processing"),
        (("stuck", "--queue", "nonsense"), 2, "There are order-processing"),
        (("dead-letters", "list", "--queue", "nonsense"), 2, "There are order-processing"),
        (("webhooks", "deliveries", NOBODY), 1, "There is no endpoint"),
        (("saga", "show", "nonsense"), 2, "valid UUID"),
        (("saga", "retry", NOBODY), 2, "--reason"),
    ],
)
async def test_what_is_not_there_is_named(up: Up, arguments: Sequence[str], code: int, says: str) -> None:
    ran = await up.comanda(*arguments)
    assert (ran.code, ran.out) == (code, ""), ran
    assert says in ran.err
    assert "Traceback" not in ran.err


@pytest.mark.parametrize("command", [("stuck",), ("explain", NOBODY), ("queue", "list"), ("doctor",), ("restart",)])
async def test_a_folder_where_nothing_runs_is_one_sentence(tmp_path: Path, command: Sequence[str]) -> None:
    ran = await comanda(*command, "--data-dir", str(tmp_path / "none"))
    assert (ran.code, ran.out) == (2, "")
    assert "comanda up" in ran.err
    assert "Traceback" not in ran.err


@pytest.mark.parametrize("command", [("stuck",), ("doctor",)])
async def test_a_postgresql_that_is_away_is_one_sentence(command: Sequence[str]) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
        urls = {"DATABASE_URL": f"postgresql://x:geheim@127.0.0.1:{port}/x", "REDIS_URL": "redis://127.0.0.1:1"}
        ran = await comanda(*command, **urls)
    assert (ran.code, ran.out) == (4, ""), ran
    assert "PostgreSQL" in ran.err
    assert "Traceback" not in ran.err
    assert "geheim" not in ran.err


async def test_a_pipe_that_closes_is_no_traceback(up: Up, admin: Visitor) -> None:
    await admin.ended(*[await admin.order(await admin.product()) for _ in range(3)])
    for options in ((), ("--json",)):
        read, write = os.pipe()
        os.close(read)
        try:
            command = (*COMANDA, "saga", "list", "--data-dir", str(up.folder), *options)
            ran = await asyncio.create_subprocess_exec(
                *command, env=environment({}), stdout=write, stderr=subprocess.PIPE
            )
        finally:
            os.close(write)
        _, err = await ran.communicate()
        assert ran.returncode in {0, 1, -signal.SIGPIPE}
        assert b"Traceback" not in err
        assert b"Exception ignored" not in err


async def test_ctrl_c_is_no_traceback(up: Up, admin: Visitor) -> None:
    before = len(await admin.orders())
    command = (*COMANDA, "load", "--orders", "500", "--rate", "5", "--data-dir", str(up.folder))
    ran = await asyncio.create_subprocess_exec(
        *command, env=environment(FAST), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        # Whoever runs the tests in the background ignores it, and so would this.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip

    async def has_begun() -> bool:
        return len(await admin.orders()) > before

    try:
        await eventually(has_begun)
        ran.send_signal(signal.SIGINT)
        _, err = await ran.communicate()
    finally:
        if ran.returncode is None:
            ran.kill()
    assert ran.returncode == 130, err
    assert b"Traceback" not in err
