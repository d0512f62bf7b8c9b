"""Secrets that can't be mistaken for anything else go through everything, and come out nowhere.

An Idempotency-Key is none of them: it names an intent, and is worth nothing without its account's token.
"""

import asyncio
import gzip
import importlib.util
import json
import secrets
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from receiver import Receiver
from up import ADMIN, Ran, Reply, Up, Visitor, comanda, eventually, running

CLOSED = "http://127.0.0.1:1/hook"
IS_TRACED = importlib.util.find_spec("opentelemetry") is not None  # comanda[otel]
CONSOLE = (
    "", "/settings", "/orders", "/payments", "/webhooks", "/dead-letters", "/audit", "/mailbox", "/users", "/queues",
)  # fmt: skip


@pytest.fixture
def collector() -> Iterator[Receiver]:
    """Who is told of every span, as a collector of OpenTelemetry is."""
    one = Receiver(answer=b"")
    yield one
    one.close()


def _canary(kind: str) -> str:
    return f"canary-{kind}-{secrets.token_hex(16)}"


def _hits(canaries: Mapping[str, str], places: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(place, kind) for place, text in places for kind, value in canaries.items() if value in text]


def _is_for_staff(place: str, kind: str) -> bool:
    """Who may see an order and its payment in the console is told by which method it was paid."""
    return kind in {"method", "method2"} and place.startswith(("/admin/payments", "/admin/orders/"))


class _Traffic:
    """Requests of every kind; what was answered where it was no success."""

    def __init__(self, up: Up) -> None:
        self.up = up
        self.session = up.session()
        self.refusals: list[tuple[str, str]] = []
        self.statuses: set[int] = set()

    async def ask(self, method: str, path: str, body: Any = None, token: str = "", **options: Any) -> Reply:
        is_form = isinstance(body, str) and body.startswith("email=")
        headers = {
            "Content-Type": "text/plain" if is_form else "application/json",
            **({"Authorization": f"Bearer {token}"} if token else {}),
        }
        data = body if isinstance(body, str) else None if body is None else json.dumps(body)
        url = f"{self.up.api}/api/v1{path}"
        async with self.session.request(method, url, data=data, headers=headers, **options) as response:
            text = await response.text()
            self.statuses.add(response.status)
            if response.status >= 400:
                self.refusals.append((f"{method} {path.partition('?')[0]} {response.status}", text))
            is_json = response.content_type.endswith("json")
            return Reply(response.status, json.loads(text) if is_json else text, response.headers)


async def test_no_secret_comes_out_anywhere(
    tmp_path: Path, collector: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url.removesuffix("/hook"))
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_on")
    given = {name: _canary(name) for name in ("admin", "password", "guess", "method", "method2", "dsn", "redis")}
    key, short_key = _canary("key"), "canary-" + secrets.token_hex(8)
    logs = tmp_path / "logs"
    settings = {
        "ADMIN_PASSWORD": given["admin"], "SECRET_KEY": key, "LOG_DIR": str(logs), "LOG_LEVEL": "debug",
        "REQUEST_SECONDS": "2", "RATE_LIMITS": "off",
    }  # fmt: skip
    canaries = {**given, "key": key, "short key": short_key}
    shown: list[tuple[str, str]] = []
    async with running(tmp_path / "data", "--json", **settings) as up:
        admin = await up.signed_in(ADMIN, given["admin"])
        traffic = _Traffic(up)
        canaries |= await _people(traffic, admin, given)
        order = await _orders(traffic, admin, given, canaries["access"])
        canaries |= await _hooks(admin)
        await _hurt(up, traffic, admin, given, canaries["access"])
        canaries |= _stored(up.folder)
        shown += await _commands(up, order, canaries)
        async with up.session().get(f"{up.api}/metrics") as response:
            shown.append(("/metrics", await response.text()))
        shown.append(("mailbox", json.dumps(await admin.get("/mailbox"))))
        shown += await _console(up, order, given["admin"])
        await up.stop()
        shown += traffic.refusals
    assert {400, 401, 404, 415, 422, 503} <= traffic.statuses
    spans = [(f"trace {number}", text) for number, text in enumerate(_traced(collector))]
    assert not IS_TRACED or all(
        _hits({"planted": name}, spans) for name in ("POST /api/v1/auth/login", "order.process_payment", "POST webhook")
    ), "what is traced is looked through"
    shown += spans
    files = [*logs.rglob("*"), *(tmp_path / "data" / "logs").rglob("*"), tmp_path / "data.out", tmp_path / "data.err"]
    shown += [(str(one.relative_to(tmp_path)), one.read_text(errors="replace")) for one in files if one.is_file()]
    assert len([one for one in files if one.is_file()]) >= 6
    assert all(len(one) >= 16 for one in canaries.values()), "too short to be unmistakable"
    assert _hits({"planted": "Request"}, shown), "it looks where something is"
    assert not [hit for hit in _hits(canaries, shown) if not _is_for_staff(*hit)]


async def _people(traffic: _Traffic, admin: Visitor, given: Mapping[str, str]) -> dict[str, str]:
    """Good and bad ways to sign up and in; the tokens that were given out."""
    ana = {"email": "ana@example.com", "password": given["password"], "firstName": "Ana", "lastName": "Ruiz"}
    signed = await traffic.ask("POST", "/auth/register", ana)
    assert signed.status == 201, signed
    access, refresh = signed.body["accessToken"], signed.body["refreshToken"]
    ask, guess = traffic.ask, given["guess"]
    renewed = await ask("POST", "/auth/refresh", {"refreshToken": refresh})
    await asyncio.gather(
        ask("POST", "/auth/register", ana),
        ask("POST", "/auth/register", {**ana, "email": given["password"]}),
        ask("POST", "/auth/register", {**ana, "password": [given["password"]]}),
        ask("POST", "/auth/register", {**ana, "password": given["password"] * 50}),
        ask("POST", "/auth/register", {**ana, "password": given["password"] + "\x00"}),
        ask("POST", "/auth/register", {**ana, "language": given["password"]}),
        ask("POST", "/auth/register", json.dumps(ana)[:-9]),
        ask("POST", "/auth/login", {"email": ana["email"], "password": guess}),
        ask("POST", "/auth/login", {"email": guess, "password": guess}),
        ask("POST", "/auth/login", {"email": ana["email"], "password": {"is": guess}}),
        ask("POST", "/auth/login", f'{{"email": "a", "password": "{guess}'),
        ask("POST", "/auth/login", f"email=a&password={guess}"),
        ask("POST", "/auth/refresh", {"refreshToken": guess}),
        ask("POST", "/auth/refresh", {"refreshToken": [refresh]}),
        ask("POST", "/auth/logout", {"refreshToken": guess * 9}, access),
        ask("GET", "/auth/me", None, access[:-2]),
        ask("GET", f"/orders?cursor={access[:60]}", None, access),
        ask("GET", f"/nowhere?access_token={access}&password={guess}"),
        ask("POST", "/users", {**ana, "role": guess}, admin.headers["Authorization"].removeprefix("Bearer ")),
    )
    await ask("POST", "/auth/refresh", {"refreshToken": refresh})  # used twice: the session ends
    assert (await ask("POST", "/auth/refresh", {"refreshToken": renewed.body["refreshToken"]})).status == 401
    signature = access.rpartition(".")[2]
    return {"access": access, "signature": signature, "refresh": refresh, "renewed": renewed.body["refreshToken"]}


async def _orders(traffic: _Traffic, admin: Visitor, given: Mapping[str, str], token: str) -> str:
    """Good and bad orders with a card's token; one that was accepted and ended."""
    items = [{"productId": await admin.product(), "quantity": 1}]
    method, ask = given["method"], traffic.ask
    good = await ask("POST", "/orders", {"items": items, "paymentMethod": method}, token)
    assert good.status == 202, good
    await asyncio.gather(
        ask("POST", "/orders", {"items": items, "paymentMethod": [method]}, token),
        ask("POST", "/orders", {"items": items, "paymentMethod": method * 9}, token),
        ask("POST", "/orders", {"items": [{"productId": method, "quantity": method}]}, token),
        ask("POST", "/orders", {"items": items, "notes": [method], "paymentMethod": method}, token),
        ask("POST", "/orders", json.dumps({"items": items, "paymentMethod": method})[:-3], token),
        ask("POST", "/orders", json.dumps({"items": items, "paymentMethod": method}) + method, token),
        ask("POST", "/orders", {"items": items, "paymentMethod": method, "idempotencyKey": "ñ"}, token),
        ask("POST", "/orders", {"items": items, "paymentMethod": method}, "wrong"),
    )
    order: str = good.body["orderId"]
    await admin.ended(order)
    return order


async def _hooks(admin: Visitor) -> dict[str, str]:
    """Somebody who is told of everything, and is away; the secret for it."""
    made = await admin.made("/webhooks", {"url": CLOSED})
    turned = await admin.made(f"/webhooks/{made['id']}/rotate-secret", None)
    await admin.made(f"/webhooks/{made['id']}/test", None)

    async def was_tried() -> bool:
        path = f"/webhooks/{made['id']}/deliveries"
        log = (await admin.get(path))["items"]
        return bool(log) and bool((await admin.get(f"{path}/{log[0]['id']}"))["attempts"])

    await eventually(was_tried)
    return {"webhook": made["secret"].removeprefix("whsec_"), "turned": turned["secret"].removeprefix("whsec_")}


async def _hurt(up: Up, traffic: _Traffic, admin: Visitor, given: Mapping[str, str], token: str) -> None:
    """The gateway goes away under an order, and PostgreSQL under everything."""
    items = [{"productId": await admin.product(), "quantity": 1}]
    up.kill("gateway")
    made = await traffic.ask("POST", "/orders", {"items": items, "paymentMethod": given["method2"]}, token)
    await admin.ended(made.body["orderId"])
    up.kill("postgres")

    async def is_refused() -> bool:
        replies = await asyncio.gather(
            traffic.ask("POST", "/auth/login", {"email": "ana@example.com", "password": given["password"]}),
            traffic.ask("POST", "/orders", {"items": items, "paymentMethod": given["method2"]}, token),
            traffic.ask("POST", "/auth/refresh", {"refreshToken": given["guess"]}),
        )
        return any(one.status == 503 for one in replies)

    async def is_back() -> bool:
        ready = await traffic.ask("GET", "/health/ready")
        return ready.status == 200

    await eventually(is_refused, 20)
    await eventually(is_back)


async def _console(up: Up, order: str, password: str) -> list[tuple[str, str]]:
    """What the console's pages show to an admin, the settings among them."""
    jar = aiohttp.CookieJar(unsafe=True)  # the host is an address
    async with aiohttp.ClientSession(cookie_jar=jar) as session:
        fields, own = {"email": ADMIN, "password": password}, {"Origin": up.api}
        async with session.post(f"{up.api}/admin/login", data=fields, headers=own) as response:
            assert (response.status, response.url.path) == (200, "/admin"), await response.text()
        pages = []
        for path in (*CONSOLE, f"/orders/{order}"):
            async with session.get(f"{up.api}/admin{path}") as response:
                assert response.status == 200, path
                pages.append((f"/admin{path}", await response.text()))
    assert _hits({"a setting": "COMANDA_SECRET_KEY"}, pages) or _hits({"a setting": "SECRET_KEY"}, pages)
    return pages


def _traced(collector: Receiver) -> list[str]:
    """Names and attributes of spans, as far as they are text in what was sent."""
    told = [(headers.get("content-encoding"), body) for headers, body in list(collector.heard)]
    return [(gzip.decompress(body) if how == "gzip" else body).decode(errors="replace") for how, body in told]


def _stored(folder: Path) -> dict[str, str]:
    """What the instance made up for itself and keeps where nobody else reads."""
    for name in ("secrets.json", "up.json"):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600
    stored: dict[str, str] = json.loads((folder / "secrets.json").read_bytes())
    return {f"stored {name}": value for name, value in stored.items()}


async def _commands(up: Up, order: str, canaries: Mapping[str, str]) -> list[tuple[str, str]]:
    """What commands print, of this instance and of servers that are not there."""
    asked = [
        ("doctor", "--json"), ("saga", "list", "--json"), ("saga", "show", order, "--json"),
        ("queue", "list", "--json"),
        ("orders", "show", order, "--json"), ("dead-letters", "list", "--json"), ("audit", "list", "--json"),
    ]  # fmt: skip
    dsn = f"postgresql://me:{canaries['dsn']}@127.0.0.1:1/x"
    redis = f"redis://:{canaries['redis']}@127.0.0.1:1/0"
    wrong: list[tuple[tuple[str, ...], dict[str, str]]] = [
        (("migrate",), {"DATABASE_URL": dsn}),
        (("migrate",), {"DATABASE_URL": f"postgresql://me:{canaries['dsn']}@127.0.0.1:nonsense/x"}),
        (("migrate",), {"DATABASE_URL": f"mysql://me:{canaries['dsn']}@127.0.0.1/x"}),
        (("worker",), {"DATABASE_URL": dsn, "REDIS_URL": redis}),
        (("api",), {"DATABASE_URL": dsn, "REDIS_URL": redis, "SECRET_KEY": canaries["short key"]}),
    ]
    ran: list[Ran] = []
    for some in (asked[:4], asked[4:]):
        ran += await asyncio.gather(*(up.comanda(*one) for one in some))
    assert [one.code for one in ran] == [0] * len(asked), ran
    ran += await asyncio.gather(*(comanda(*arguments, **settings) for arguments, settings in wrong))
    assert all(one.code in {2, 4} for one in ran[len(asked) :]), ran[len(asked) :]
    names = [" ".join(one) for one in asked] + [" ".join(one) for one, _ in wrong]
    return [(name, one.out + one.err) for name, one in zip(names, ran, strict=True)]
