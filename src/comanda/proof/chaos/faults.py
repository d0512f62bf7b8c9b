"""The table of faults: each is done, lasts, and is undone. What comes before `yield` is the blow, what follows heals.

Every fault sees that it really happens, and says so (`what.happened`): one that missed is not counted.
"""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field

from comanda.errors import DatabaseFault
from comanda.proof.chaos import ledgers
from comanda.proof.chaos.proxy import HttpProxy, Proxy
from comanda.proof.chaos.schedule import Kind
from comanda.proof.chaos.stage import APIS, LEASE_SECONDS, PAYMENT_PATIENCE_SECONDS, WORKERS, Stage

_KEY_VOIDED = 409
_CUTS = 3
_LOST_ANSWERS = 5
_HELD = "held"
_EVERY = 1_000_000
_FAILED, _LOST, _REFUSED = "answered_500", "answer_lost", "refused"
_SOON = 8.0  # seconds within which something passes that can be hurt
_PAST_THE_LEASE = LEASE_SECONDS + 1.5
_UNTIL_UNDONE = PAYMENT_PATIENCE_SECONDS + 3.0


@dataclass
class Happening:
    """What came of a fault: nothing, until it says that it happened, and how."""

    chance: float
    told: list[str] = field(default_factory=list)

    @property
    def has_happened(self) -> bool:
        return bool(self.told)

    def happened(self, how: str) -> None:
        self.told.append(how)


Hurting = Callable[[Stage, Happening], AbstractAsyncContextManager[None]]


@dataclass(frozen=True, slots=True)
class Fault:
    """A kind of fault, and how it is done and undone."""

    kind: Kind
    hurt: Hurting


def _gateway(stage: Stage) -> HttpProxy:
    return stage.gateway_link


def _receiver(stage: Stage) -> HttpProxy:
    return stage.receiver_link


def killed(role: str, many: int = 1) -> Hurting:
    """SIGKILL."""

    @asynccontextmanager
    async def hurt(stage: Stage, what: Happening) -> AsyncIterator[None]:
        name = _one_of(role, many, what.chance)
        what.happened(f"{name}, pid {await stage.kill(name)}, died")
        yield

    return hurt


def frozen(role: str, many: int = 1) -> Hurting:
    """SIGSTOP, then SIGCONT: alive, and late."""

    @asynccontextmanager
    async def hurt(stage: Stage, what: Happening) -> AsyncIterator[None]:
        name = _one_of(role, many, what.chance)
        process = await stage.freeze(name)
        try:
            what.happened(f"{name}, pid {process.pid}, stood still")
            yield
        finally:
            process.resume()

    return hurt


def half_open(link: Callable[[Stage], Proxy]) -> Hurting:
    """Connections stay open, and nothing gets through."""

    @asynccontextmanager
    async def hurt(stage: Stage, what: Happening) -> AsyncIterator[None]:
        proxy = link(stage)
        proxy.swallow(is_swallowing=True)
        try:
            await _soon(lambda: proxy.connections > 0)
            if count := proxy.connections:
                what.happened(f"{count} connections swallowed everything")
            yield
        finally:
            proxy.swallow(is_swallowing=False)

    return hurt


def slow(link: Callable[[Stage], Proxy], seconds: float) -> Hurting:
    """Everything comes later."""

    @asynccontextmanager
    async def hurt(stage: Stage, what: Happening) -> AsyncIterator[None]:
        proxy = link(stage)
        proxy.delay(seconds)
        try:
            await _soon(lambda: proxy.connections > 0)
            if count := proxy.connections:
                what.happened(f"{count} connections were {seconds * 1000:.0f} ms late")
            yield
        finally:
            proxy.delay(0)

    return hurt


def failing(link: Callable[[Stage], HttpProxy], *paths: str) -> Hurting:
    """It answers 500."""

    @asynccontextmanager
    async def hurt(stage: Stage, what: Happening) -> AsyncIterator[None]:
        proxy = link(stage)
        cuts, before = proxy.cuts, proxy.cuts[_FAILED]
        proxy.fail(*paths)
        try:
            await _soon(lambda: cuts[_FAILED] > before)  # money is given back now and then only
            yield
        finally:
            proxy.fail()
        if failed := cuts[_FAILED] - before:
            what.happened(f"{failed} calls were answered 500")

    return hurt


def losing(link: Callable[[Stage], HttpProxy], path: str, how: str) -> Hurting:
    """It does what it was asked for, and nobody hears of it."""

    @asynccontextmanager
    async def hurt(stage: Stage, what: Happening) -> AsyncIterator[None]:
        proxy = link(stage)
        cuts, before = proxy.cuts, proxy.cuts[_LOST]
        proxy.lose_answers(_LOST_ANSWERS, path)
        try:
            await _soon(lambda: cuts[_LOST] > before)
            yield
        finally:
            proxy.lose_answers(0, path)
        if lost := cuts[_LOST] - before:
            what.happened(f"{lost} answers {how} were lost")

    return hurt


@asynccontextmanager
async def receiver_down(stage: Stage, what: Happening) -> AsyncIterator[None]:
    """Nobody takes webhooks any more."""
    proxy = stage.receiver_link
    cuts, before = proxy.cuts, proxy.cuts[_REFUSED]
    proxy.refuse(is_refusing=True)
    try:
        await _soon(lambda: cuts[_REFUSED] > before)
        yield
    finally:
        proxy.refuse(is_refusing=False)
    if refused := cuts[_REFUSED] - before:
        what.happened(f"{refused} connections were refused")


@asynccontextmanager
async def gateway_down(stage: Stage, what: Happening) -> AsyncIterator[None]:
    """Killed, and nobody listens any more."""
    stage.gateway_link.refuse(is_refusing=True)
    try:
        what.happened(f"pid {await stage.kill('gateway')} died, connections were refused")
        yield
    finally:
        stage.gateway_link.refuse(is_refusing=False)


@asynccontextmanager
async def charges_held(stage: Stage, what: Happening) -> AsyncIterator[None]:
    """Charges stand still on their way, and arrive after their orders were undone."""
    cuts, before = stage.gateway_link.cuts, stage.gateway_link.cuts[_HELD]
    stage.gateway_link.hold(_EVERY, "/charges")
    try:
        await _soon(lambda: cuts[_HELD] > before)  # none is on its way while the breaker is open
        yield
    finally:
        stage.gateway_link.hold(0, "/charges")
        statuses = await stage.gateway_link.deliver_held()
        if late := statuses.count(_KEY_VOIDED):
            what.happened(f"{late} charges came after their orders were undone, {len(statuses) - late} before")


@asynccontextmanager
async def postgres_restarted(stage: Stage, what: Happening) -> AsyncIterator[None]:
    """An immediate shutdown: recovery from the log follows."""
    what.happened(f"the postmaster, pid {await stage.kill('postgres', signal.SIGQUIT)}, died")
    yield


@asynccontextmanager
async def backends_terminated(stage: Stage, what: Happening) -> AsyncIterator[None]:
    """pg_terminate_backend of everybody."""
    if ended := await _terminate(stage, ledgers.EVERYBODY):
        what.happened(f"{ended} backends were terminated")
    yield


@asynccontextmanager
async def commits_unheard(stage: Stage, what: Happening) -> AsyncIterator[None]:
    """The server commits; the connection is reset before the client hears of it."""
    if cut := await stage.database_link.cut_after_commit(_CUTS, timeout=_SOON):
        what.happened(f"{cut} commits were cut off from their answers")
    yield


@asynccontextmanager
async def postgres_cut(stage: Stage, what: Happening) -> AsyncIterator[None]:
    if cut := stage.database_link.cut():
        what.happened(f"{cut} connections were reset")
    yield


@asynccontextmanager
async def notifications_lost(stage: Stage, what: Happening) -> AsyncIterator[None]:
    """Nobody is woken: notifications vanish, and so do the connections that listened."""
    stage.database_link.drop_notifications(is_dropping=True)
    try:
        if ended := await _terminate(stage, ledgers.LISTENERS):
            what.happened(f"{ended} listening connections were ended, notifications dropped")
        yield
    finally:
        stage.database_link.drop_notifications(is_dropping=False)


@asynccontextmanager
async def redis_flushed(stage: Stage, what: Happening) -> AsyncIterator[None]:
    what.happened(f"FLUSHALL was answered {await stage.redis('FLUSHALL')}")
    yield


@asynccontextmanager
async def redis_file_cut(stage: Stage, what: Happening) -> AsyncIterator[None]:
    """Killed, and its append-only file ends somewhere when it starts again."""
    stage.was_cut, stage.cut_at = 0, what.chance
    pid = await stage.kill("valkey")
    yield
    await stage.living("valkey")
    if stage.was_cut:
        what.happened(f"pid {pid} died, the last {stage.was_cut} bytes of its file were cut off")


# fmt: off
FAULTS = [
    Fault(Kind("api killed -9",               "API",        0), killed("api", APIS)),
    Fault(Kind("api frozen past a lease",     "API",        _PAST_THE_LEASE), frozen("api", APIS)),
    Fault(Kind("worker killed -9",            "worker",     0), killed("worker", WORKERS)),
    Fault(Kind("worker frozen past its lease", "worker",    _PAST_THE_LEASE), frozen("worker", WORKERS)),
    Fault(Kind("relay killed -9",             "relay",      0), killed("relay")),
    Fault(Kind("relay frozen",                "relay",      _PAST_THE_LEASE), frozen("relay")),
    Fault(Kind("gateway killed and down",     "gateway",    3), gateway_down),
    Fault(Kind("gateway slow",                "gateway",    3), slow(_gateway, 0.8)),
    Fault(Kind("gateway answers 500",         "gateway",    2.5), failing(_gateway, "*")),
    Fault(Kind("answers lost after capture",  "gateway",    1.5), losing(_gateway, "/charges", "after the capture")),
    Fault(Kind("refunds fail",                "gateway",    3), failing(_gateway, "/refunds", "/void")),
    Fault(Kind("charges arrive too late",     "gateway",    _UNTIL_UNDONE), charges_held),
    Fault(Kind("immediate restart",           "PostgreSQL", 0), postgres_restarted),
    Fault(Kind("backends terminated",         "PostgreSQL", 0), backends_terminated),
    Fault(Kind("commits unheard",             "PostgreSQL", 0), commits_unheard),
    Fault(Kind("connections cut",             "PostgreSQL", 0), postgres_cut),
    Fault(Kind("database slow",               "PostgreSQL", 3), slow(lambda stage: stage.database_link, 0.05)),
    Fault(Kind("FLUSHALL",                    "Redis",      0), redis_flushed),
    Fault(Kind("redis killed -9",             "Redis",      0), killed("valkey")),
    Fault(Kind("append-only file cut",        "Redis",      0), redis_file_cut),
    Fault(Kind("redis frozen",                "Redis",      3), frozen("valkey")),
    Fault(Kind("notifications lost",          "network",    3), notifications_lost),
    Fault(Kind("half-open to PostgreSQL",     "network",    3), half_open(lambda stage: stage.database_link)),
    Fault(Kind("half-open to Redis",          "network",    3), half_open(lambda stage: stage.redis_link)),
    Fault(Kind("half-open to the gateway",    "network",    3), half_open(_gateway)),
    Fault(Kind("receiver answers 500",        "receiver",   3), failing(_receiver, "*")),
    Fault(Kind("receiver hangs",              "receiver",   3), half_open(_receiver)),
    Fault(Kind("receiver down",               "receiver",   3), receiver_down),
    Fault(Kind("webhooks taken unheard",      "receiver",   1.5), losing(_receiver, "/", "to webhooks")),
]
# fmt: on
KINDS = [fault.kind for fault in FAULTS]
BY_NAME = {fault.kind.name: fault for fault in FAULTS}


def _one_of(role: str, many: int, chance: float) -> str:
    return role if role in {"relay", "valkey"} else f"{role}-{1 + int(chance * many)}"


async def _soon(holds: Callable[[], bool]) -> None:
    """Wait until it holds, or for some seconds."""
    clock = asyncio.get_running_loop().time
    deadline = clock() + _SOON
    while not holds() and clock() < deadline:  # noqa: ASYNC110 - the proxy counts, it tells nobody
        await asyncio.sleep(0.05)


async def _terminate(stage: Stage, whose: str) -> int:
    """Past the proxy; again while PostgreSQL comes back from another fault, or nobody is connected."""
    clock = asyncio.get_running_loop().time
    deadline = clock() + _SOON
    while True:
        try:
            async with stage.database() as tx:
                if ended := await ledgers.terminate(tx, whose):
                    return ended
        except DatabaseFault:
            if clock() > deadline:
                raise
        if clock() > deadline:
            return 0
        await asyncio.sleep(0.1)
