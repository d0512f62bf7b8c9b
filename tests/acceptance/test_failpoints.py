"""Every commit and every call outside, crashed once right before and once right after. The code lists them itself."""

import importlib
import pkgutil
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import pytest

import comanda
from comanda import assembly, failpoints
from comanda.db.database import connect
from comanda.payments.gateway import HttpGateway, InstantGateway
from comanda.proof import invariants
from comanda.saga.definition import Direction
from comanda.settings import Settings
from crash_drives import DRIVES
from crash_scene import OBSTACLES, SETTINGS, UNITS, Pager, Scene
from up import Up, eventually

# What comes after the money has gone back is not undone: nothing calls that back.
UNREACHABLE = {"refund.take_back.backward", "refund.complete_refund.backward"}


def _all() -> list[str]:
    """The boundaries, and those of the engine for each step in each direction."""
    for module in pkgutil.walk_packages(comanda.__path__, "comanda."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    names = list(failpoints.boundaries())
    known = assembly.definitions(Settings(), None, InstantGateway(), None, None)  # type: ignore[arg-type]
    for saga in known.sagas:
        for step in saga.steps:
            for direction in get_args(Direction):
                about = f"{saga.name}.{step.name}.{direction}"
                if about in UNREACHABLE:
                    continue
                names.append(f"step:{about}")
                if step.acts_remotely(direction):
                    names.append(f"result:{about}")
    return names


@dataclass
class _Running:
    up: Up
    pager: Pager
    failpoints: Path


@pytest.fixture(scope="module")
def _running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Running]:
    folder, pager = tmp_path_factory.mktemp("crashes"), Pager()
    points = folder / "failpoints"
    points.mkdir()
    up = Up(folder / "data", "--json", FAILPOINTS=str(points), ALERT_WEBHOOK_URL=pager.url, **SETTINGS)
    try:
        up.wait_until_ready()
        yield _Running(up, pager, points)
    finally:
        up.terminate()
        pager.close()


@pytest.fixture
async def scene(_running: _Running) -> AsyncIterator[Scene]:
    up = _running.up
    scene = Scene(up, _running.failpoints, _running.pager, await up.signed_in(), await up.registered())
    if not await scene.ask("SELECT 1 FROM pg_class WHERE relname = 'obstacles'"):
        connection = await connect(up.facts["databaseUrl"], name="tests")
        await connection.execute(OBSTACLES)
        connection.terminate()
    scene.products = [await scene.admin.product(price=price, stock=UNITS) for price in (1250, 777)]
    try:
        yield scene
    finally:
        for left in _running.failpoints.iterdir():
            left.unlink()
        await scene.clear()
        await up.leave()


def test_every_boundary_has_something_that_leads_to_it() -> None:
    assert sorted(_all()) == sorted(DRIVES)


@pytest.mark.parametrize("name", sorted(DRIVES))
async def test_a_crash_there_loses_nothing(scene: Scene, name: str) -> None:
    """Whoever gets there dies before it; whoever comes again does it, and dies of that."""
    before, after = (scene.failpoints / f"{name}.{moment}" for moment in ("before", "after"))
    before.touch()
    after.touch()
    await DRIVES[name](scene)
    await eventually(lambda: not before.exists(), 20)
    await _mended(scene)
    if after.exists():  # nobody had to come again
        await DRIVES[name](scene)
        await eventually(lambda: not after.exists(), 20)
        await _mended(scene)
    await _check(scene)


async def _mended(scene: Scene) -> None:
    """Whatever stood in the way is gone; everything that was accepted ends."""
    await scene.clear()
    stuck = [str(row["id"]) for row in await scene.ask("SELECT id FROM sagas WHERE state = 'COMPENSATION_FAILED'")]
    if stuck:
        assert await scene.comanda("saga", "retry", *stuck, "--reason", "the obstacle is gone") == 0
    await eventually(lambda: _nothing_is_open(scene))


async def _nothing_is_open(scene: Scene) -> bool:
    open_sagas = "SELECT 1 FROM sagas WHERE state NOT IN ('COMPLETED', 'COMPENSATED') LIMIT 1"
    return not await scene.ask(open_sagas) and not await scene.ask(
        "SELECT 1 FROM outbox, outbox_cursors AS cursor WHERE (outbox.xid, outbox.id) > (cursor.xid, cursor.id) LIMIT 1"
    )


async def _check(scene: Scene) -> None:
    """By the ledgers alone: the client's, the gateway's, the tables."""
    rows = await scene.ask("SELECT id, total_amount FROM orders WHERE customer_id = $1", scene.customer.id)
    assert {str(row["id"]): row["total_amount"] for row in rows} == scene.promised
    connection = await connect(scene.up.facts["databaseUrl"], name="tests")
    try:
        async with (
            HttpGateway(scene.up.facts["gateway"], timeout=5) as gateway,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            findings = await invariants.check(connection, gateway)
    finally:
        connection.terminate()
    wrong = [one for one in findings if one.status != "passed"]
    # The half refund of `refunding` is of nobody's order.
    wrong = [one for one in wrong if not all("no such order" in str(row.get("problem")) for row in one.rows)]
    assert wrong == []
