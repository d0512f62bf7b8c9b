"""Signing up and in, refresh tokens, and every way of forging an access token."""

import asyncio
import base64
import hashlib
import hmac
import json
import time
from datetime import timedelta
from typing import Any
from uuid import uuid4

import jwt
import pytest

from api_client import KEY, PASSWORD, Client, token_of
from comanda.accounts import accounts, passwords, sessions
from comanda.accounts.accounts import Account, Registration
from comanda.accounts.sessions import Renewed, Stale
from comanda.db import Database

REGISTRATION = {
    "email": "ana@example.com",
    "password": PASSWORD,
    "firstName": "Ana",
    "lastName": "Ruiz",
    "phoneNumber": "+34 600 000 000",
    "language": "es",
}


def _claims(account_id: Any, **changes: Any) -> dict[str, Any]:
    now = int(time.time())
    claims = {
        "sub": str(account_id),
        "role": "customer",
        "type": "access",
        "iss": "comanda",
        "aud": "comanda-api",
        "iat": now,
        "exp": now + 900,
        "jti": "1",
    } | changes
    return {name: value for name, value in claims.items() if value is not None}


def _signed(claims: dict[str, Any], key: str = KEY, algorithm: str = "HS256", **header: Any) -> str:
    return jwt.encode(claims, key, algorithm=algorithm, headers=header or None)


def _by_hand(header: dict[str, Any], claims: dict[str, Any], *, is_signed: bool) -> str:
    parts = [base64.urlsafe_b64encode(json.dumps(one).encode()).rstrip(b"=") for one in (header, claims)]
    text = b".".join(parts)
    signature = hmac.digest(KEY.encode(), text, hashlib.sha256) if is_signed else b""
    return (text + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()


async def test_who_registers_is_signed_in(api: Client) -> None:
    reply = await api.post("/api/v1/auth/register", REGISTRATION)
    assert reply.status == 201
    assert reply.body["tokenType"] == "Bearer"
    assert reply.body["expiresIn"] >= 900
    assert reply.body["user"]["email"] == "ana@example.com"
    assert reply.body["user"]["role"] == "customer"
    assert "password" not in json.dumps(reply.body).lower()
    for path in ("/api/v1/auth/me", "/api/v1/auth/profile"):
        me = await api.get(path, token=reply.body["accessToken"])
        assert (me.status, me.body) == (200, reply.body["user"])


async def test_an_address_is_taken_in_any_spelling(api: Client) -> None:
    await api.post("/api/v1/auth/register", REGISTRATION)
    reply = await api.post("/api/v1/auth/register", REGISTRATION | {"email": "ANA@example.com"})
    assert (reply.status, reply.body["code"]) == (409, "EMAIL_TAKEN")


async def test_one_of_many_at_once_gets_an_address(api: Client) -> None:
    replies = await asyncio.gather(*(api.post("/api/v1/auth/register", REGISTRATION) for _ in range(8)))
    assert sorted(reply.status for reply in replies) == [201] + [409] * 7


async def test_an_unknown_user_and_a_wrong_password_look_alike(api: Client) -> None:
    person = await api.person()
    wrong = await api.post("/api/v1/auth/login", {"email": person.email, "password": "not it at all"})
    unknown = await api.post("/api/v1/auth/login", {"email": "nobody@example.com", "password": "not it at all"})
    assert wrong.status == unknown.status == 401
    assert wrong.body["code"] == unknown.body["code"] == "CREDENTIALS_REFUSED"
    right = await api.post("/api/v1/auth/login", {"email": person.email.upper(), "password": PASSWORD})
    assert right.status == 200


async def test_guessing_is_slowed_down(api: Client) -> None:
    person = await api.person()
    for _ in range(10):
        await api.post("/api/v1/auth/login", {"email": person.email, "password": "a wrong guess"})
    reply = await api.post("/api/v1/auth/login", {"email": person.email, "password": PASSWORD})
    assert (reply.status, reply.body["code"]) == (429, "TOO_MANY_REQUESTS")
    assert int(reply.headers["Retry-After"]) > 0


@pytest.mark.parametrize(
    "change",
    [
        {"password": "short"},
        {"password": "x" * 129},
        {"password": "x" * 1_000_000},
        {"password": "12345678\x00"},
        {"email": "no address"},
        {"email": "a\r\nb@example.com"},
        {"email": f"{'a' * 250}@example.com"},
        {"role": "admin"},
        {"isActive": True},
        {"first_name": "Ana"},
        {"firstName": " "},
        {"firstName": None},
        {"language": "fr"},
        {"phoneNumber": "call me"},
    ],
    ids=str,
)
async def test_a_registration_is_a_closed_list(api: Client, change: dict[str, Any]) -> None:
    reply = await api.post("/api/v1/auth/register", REGISTRATION | change)
    assert (reply.status, reply.body["code"]) == (422, "VALIDATION_FAILED")
    assert reply.body["errors"][0]["field"] == next(iter(change))
    assert PASSWORD not in json.dumps(reply.body)


async def test_a_login_with_a_huge_password_is_refused_unread(api: Client) -> None:
    reply = await api.post("/api/v1/auth/login", {"email": "a@example.com", "password": "x" * 1_000_000})
    assert reply.status == 422


async def _pair(api: Client) -> tuple[str, str]:
    person = await api.person()
    reply = await api.post("/api/v1/auth/login", {"email": person.email, "password": PASSWORD})
    return reply.body["accessToken"], reply.body["refreshToken"]


async def _refresh(api: Client, token: str) -> Any:
    return await api.post("/api/v1/auth/refresh", {"refreshToken": token})


async def test_a_refresh_token_is_good_once_and_its_reuse_ends_the_family(api: Client) -> None:
    _, first = await _pair(api)
    second = (await _refresh(api, first)).body["refreshToken"]
    assert second != first
    third = (await _refresh(api, second)).body["refreshToken"]
    stolen = await _refresh(api, first)
    assert (stolen.status, stolen.body["code"]) == (401, "REFRESH_REFUSED")
    assert (await _refresh(api, third)).status == 401


async def test_an_expired_refresh_token_is_refused(api: Client) -> None:
    _, refresh = await _pair(api)
    async with api.database.transaction() as tx:
        await tx.execute("UPDATE refresh_tokens SET expires_at = now()")
    reply = await _refresh(api, refresh)
    assert (reply.status, reply.body["code"]) == (401, "REFRESH_REFUSED")


async def test_another_login_survives_the_end_of_a_family(api: Client) -> None:
    person = await api.person()
    body = {"email": person.email, "password": PASSWORD}
    one, other = [(await api.post("/api/v1/auth/login", body)).body["refreshToken"] for _ in range(2)]
    await _refresh(api, one)
    await _refresh(api, one)
    assert (await _refresh(api, other)).status == 200


async def test_of_two_refreshes_at_once_one_wins_and_the_family_ends(api: Client) -> None:
    for _ in range(5):
        _, token = await _pair(api)
        replies = await asyncio.gather(*(_refresh(api, token) for _ in range(4)))
        assert sorted(reply.status for reply in replies) == [200, 401, 401, 401]
        winner = next(reply for reply in replies if reply.status == 200)
        assert (await _refresh(api, winner.body["refreshToken"])).status == 401


async def test_logging_out_ends_the_family(api: Client) -> None:
    access, refresh = await _pair(api)
    assert (await api.post("/api/v1/auth/logout", {"refreshToken": refresh}, token=access)).status == 204
    assert (await _refresh(api, refresh)).status == 401


@pytest.mark.parametrize("path", ["logout", "logout-everywhere"])
async def test_logging_out_without_a_token_ends_every_session(api: Client, path: str) -> None:
    access, refresh = await _pair(api)
    assert (await api.ask("POST", f"/api/v1/auth/{path}", token=access)).status == 204
    assert (await _refresh(api, refresh)).status == 401


async def test_no_refresh_survives_that_every_session_ends_at_once(api: Client) -> None:
    for _ in range(5):
        access, refresh = await _pair(api)
        _, renewed = await asyncio.gather(
            api.ask("POST", "/api/v1/auth/logout-everywhere", token=access), _refresh(api, refresh)
        )
        for token in (refresh, renewed.body.get("refreshToken", refresh)):
            assert (await _refresh(api, token)).status == 401


async def test_nobody_logs_another_out(api: Client) -> None:
    _, refresh = await _pair(api)
    other = await api.person()
    assert (await api.post("/api/v1/auth/logout", {"refreshToken": refresh}, token=other.token)).status == 204
    assert (await _refresh(api, refresh)).status == 200


async def test_a_disabled_account_is_out_at_once(api: Client) -> None:
    access, refresh = await _pair(api)
    async with api.database.transaction() as tx:
        await tx.execute("UPDATE accounts SET is_active = false")
    assert (await api.get("/api/v1/auth/me", token=access)).status == 401
    assert (await _refresh(api, refresh)).status == 401


async def test_a_demoted_admin_is_out_at_once(api: Client) -> None:
    admin = await api.person("admin")
    async with api.database.transaction() as tx:
        await tx.execute("UPDATE accounts SET role = 'customer'")
    assert (await api.get("/api/v1/inventory/stats", token=admin.token)).status == 401


async def test_a_forged_token_is_refused(api: Client) -> None:
    person = await api.person()
    mine = _claims(person.id)
    _, refresh = await _pair(api)
    forged = {
        "alg none": _by_hand({"alg": "none", "typ": "JWT"}, mine, is_signed=False),
        "alg None": _by_hand({"alg": "None", "typ": "JWT"}, mine, is_signed=False),
        "alg NONE": _by_hand({"alg": "NONE", "typ": "JWT"}, mine, is_signed=True),
        "no alg": _by_hand({"typ": "JWT"}, mine, is_signed=True),
        "HS512": _signed(mine, key=KEY * 2, algorithm="HS512"),
        "HS384": _signed(mine, key=KEY * 2, algorithm="HS384"),
        "other key": _signed(mine, key="x" * 32),
        "expired": _signed(_claims(person.id, exp=int(time.time()) - 1)),
        "no exp": _signed(_claims(person.id, exp=None)),
        "no jti": _signed(_claims(person.id, jti=None)),
        "no sub": _signed(_claims(person.id, sub=None)),
        "no iat": _signed(_claims(person.id, iat=None)),
        "no iss": _signed(_claims(person.id, iss=None)),
        "no aud": _signed(_claims(person.id, aud=None)),
        "no role": _signed(_claims(person.id, role=None)),
        "no type": _signed(_claims(person.id, type=None)),
        "not yet": _signed(_claims(person.id, nbf=int(time.time()) + 600)),
        "other iss": _signed(_claims(person.id, iss="other")),
        "other aud": _signed(_claims(person.id, aud="other")),
        "many aud": _signed(_claims(person.id, aud=["comanda-api", "other"])),
        "refresh type": _signed(_claims(person.id, type="refresh")),
        "unknown role": _signed(_claims(person.id, role="root")),
        "other role": _signed(_claims(person.id, role="admin")),
        "nobody": _signed(_claims(uuid4())),
        "no uuid": _signed(_claims("1 OR 1=1")),
        "kid": _signed(mine, kid="../../dev/null"),
        "jku": _signed(mine, jku="https://example.com/keys"),
        "x5u": _signed(mine, x5u="https://example.com/cert"),
        "crit": _by_hand({"alg": "HS256", "typ": "JWT", "crit": ["exp"]}, mine, is_signed=True),
        "truncated": person.token[:-5],
        "changed": person.token[:-3] + "AAA",
        "refresh token": refresh,
        "64 KiB": "a." * 14_000,
        "empty": "",
        "rubbish": "a.b.c",
        "nested": "x." + base64.urlsafe_b64encode(b"[" * 1000).decode() + ".x",
    }
    for name, token in forged.items():
        reply = await api.get("/api/v1/auth/me", token=token)
        assert (name, reply.status, reply.body["code"]) == (name, 401, "UNAUTHENTICATED")
        assert reply.headers["WWW-Authenticate"] == "Bearer"
    assert (await api.get("/api/v1/auth/me", token=person.token)).status == 200


async def test_only_the_bearer_scheme_is_read(api: Client) -> None:
    person = await api.person()
    for scheme, status in (("Basic", 401), ("Token", 401), ("", 401), ("bearer", 200), ("BEARER", 200)):
        reply = await api.get("/api/v1/auth/me", headers={"Authorization": f"{scheme} {person.token}"})
        assert (scheme, reply.status) == (scheme, status)
    assert (await api.get(f"/api/v1/auth/me?access_token={person.token}")).status == 401


async def test_a_token_that_expires_is_refused_although_it_was_seen(api: Client) -> None:
    person = await api.person()
    token = token_of(person.id, "customer", seconds=2)
    assert (await api.get("/api/v1/auth/me", token=token)).status == 200
    deadline = time.monotonic() + 5
    while (await api.get("/api/v1/auth/me", token=token)).status == 200:
        assert time.monotonic() < deadline


async def test_the_first_admin_is_made_once_and_nobody_is_promoted(database: Database) -> None:
    async with database.transaction() as tx:
        assert await accounts.ensure_admin(tx, "root@example.com", PASSWORD)
        assert not await accounts.ensure_admin(tx, "ROOT@example.com", "another password")
        customer = Registration("ana@example.com", "hash", "Ana", "Ruiz")
        taken = Registration("Root@Example.com", "hash", "Eve", "Ruiz")
        again = Registration("ANA@example.com", "hash", "Ana", "Ruiz")
        answers = await accounts.register(tx, [customer, taken, again])
        assert [isinstance(one, Account) for one in answers] == [True, False, False]
        assert not await accounts.ensure_admin(tx, "ana@example.com", PASSWORD)
        root, ana, nobody = await accounts.by_email(tx, ["root@example.com", "ana@example.com", "x@example.com"])
        assert root is not None
        assert ana is not None
        assert (root.role, ana.role, nobody) == ("admin", "customer", None)


async def test_of_one_refresh_token_twice_in_a_batch_none_is_good(database: Database) -> None:
    async with database.transaction() as tx:
        (made,) = await accounts.register(tx, [Registration("ana@example.com", "hash", "Ana", "Ruiz")])
        assert isinstance(made, Account)
        one, other = await sessions.begin(tx, [made.id, made.id], timedelta(hours=1))
        answers = await sessions.renew(tx, [one, other, one, "unknown"], timedelta(hours=1))
        assert [isinstance(answer, Renewed) for answer in answers] == [False, True, False, False]
        await sessions.begin(tx, [made.id], timedelta(days=-2))
        assert await sessions.forget(tx, 10) == 1
        assert await sessions.forget(tx, 10) == 0


@pytest.mark.parametrize("how", ["everywhere", "here", "used again"])
async def test_what_a_refresh_under_way_answers_is_revoked_too(database: Database, how: str) -> None:
    hour = timedelta(hours=1)
    async with database.transaction() as tx:
        (made,) = await accounts.register(tx, [Registration("ana@example.com", "hash", "Ana", "Ruiz")])
        assert isinstance(made, Account)
        (used,) = await sessions.begin(tx, [made.id], hour)
        (spent,) = await sessions.renew(tx, [used], hour)
        assert isinstance(spent, Renewed)
        first = spent.token

    async def end() -> None:
        async with database.transaction() as tx:
            match how:
                case "everywhere":
                    await sessions.revoke_all(tx, [made.id])
                case "here":
                    await sessions.revoke(tx, made.id, [first])
                case _:
                    assert await sessions.renew(tx, [used], hour) == [Stale()]

    async def somebody_waits() -> bool:
        async with database.connection() as tx:
            return bool(await tx.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"))

    async with database.transaction() as tx:
        (renewed,) = await sessions.renew(tx, [first], hour)
        ending = asyncio.create_task(end())
        while not ending.done() and not await somebody_waits():
            await asyncio.sleep(0.01)
    await ending
    assert isinstance(renewed, Renewed)
    async with database.transaction() as tx:
        assert await sessions.renew(tx, [renewed.token], hour) == [Stale()]


async def test_an_unknown_user_costs_as_much_as_a_wrong_password(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = await passwords.hashed(PASSWORD)
    verified: list[str] = []

    def noted(password: str, password_hash: str) -> bool:
        verified.append(password_hash)
        return bool(verify(password, password_hash))

    verify = passwords._HASHER.verify
    monkeypatch.setattr(passwords._HASHER, "verify", noted)
    for password_hash in (kept, None):
        assert not await passwords.matches("wrong guess", password_hash)
    # $argon2id$v=19$m=19456,t=2,p=1$salt$digest
    known, unknown = (one.split("$") for one in verified)
    assert known[:4] == unknown[:4], "the same effort"
    assert [len(part) for part in known[4:]] == [len(part) for part in unknown[4:]]
