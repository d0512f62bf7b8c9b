"""Addresses that are verified, passwords that are forgotten or changed."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from pydantic import SecretStr

from api_client import KEY, PASSWORD, Client, Person, Reply, running_api
from comanda import relay
from comanda.accounts import accounts, attempts, one_time, resets, sessions
from comanda.accounts.one_time import NotGood, OneTime, Purpose
from comanda.assembly import assemble
from comanda.db import Tx
from comanda.db.statements import Statement
from comanda.errors import ConfigurationFault
from comanda.settings import Settings
from comanda.worker import Worker

AUTH = "/api/v1/auth"
NEW = "battery staple"
ONE_TIME = OneTime(KEY)


@pytest.fixture
async def _mailed(database_url: str, redis_url: str) -> AsyncIterator[None]:
    """A relay and a worker, so that mails go out."""
    async with _at_work(database_url, redis_url):
        yield


@asynccontextmanager
async def _at_work(database_url: str, redis_url: str) -> AsyncIterator[None]:
    settings = Settings(
        database_url=database_url, redis_url=redis_url, secret_key=SecretStr(KEY), gateway="instant", lease_seconds=1
    )
    stop = asyncio.Event()
    async with assemble(settings, name="worker") as assembly, asyncio.TaskGroup() as running:
        worker = Worker(
            assembly.database,
            assembly.streams,
            assembly.sagas,
            name="worker",
            queues=["notification-sending"],
            lease=settings.lease,
        )
        running.create_task(worker.run(stop))
        running.create_task(relay.run(assembly, stop))
        try:
            yield
        finally:
            stop.set()


async def mails(api: Client, email: str, count: int) -> list[Any]:
    """The mails to somebody, oldest first, once there are so many."""
    async with asyncio.timeout(20):
        while True:
            async with api.database.connection() as tx:
                found = await tx.fetch("SELECT * FROM mailbox WHERE recipient = $1 ORDER BY sent_at", email)
            if len(found) >= count:
                return list(found)
            await asyncio.sleep(0.02)


def code_of(mail: Any) -> str:
    found = re.search(r"^[\w-]{43}$", mail["body_text"], re.MULTILINE)
    assert found, mail
    return found[0]


async def sent(api: Client, person: Person, purpose: Purpose) -> str:
    """A token for them, as if it had been mailed."""
    async with api.database.transaction() as tx:
        (token_id,) = await one_time.issue(tx, ONE_TIME, [person.id], purpose)
    return ONE_TIME.token(token_id)


async def verify(api: Client, token: str) -> Reply:
    return await api.post(f"{AUTH}/verify-email", {"token": token})


async def reset(api: Client, token: str, password: str = NEW) -> Reply:
    return await api.post(f"{AUTH}/reset-password", {"token": token, "password": password})


async def forgot(api: Client, email: str) -> Reply:
    return await api.post(f"{AUTH}/forgot-password", {"email": email})


async def log_in(api: Client, person: Person, password: str) -> Reply:
    return await api.post(f"{AUTH}/login", {"email": person.email, "password": password})


async def refreshed(api: Client, token: str) -> Reply:
    return await api.post(f"{AUTH}/refresh", {"refreshToken": token})


async def is_verified(api: Client, token: str) -> bool:
    found: bool = (await api.get(f"{AUTH}/profile", token=token)).body["emailVerified"]
    return found


def is_refused(reply: Reply) -> bool:
    return (reply.status, reply.body["code"]) == (422, "TOKEN_REFUSED")


@pytest.mark.usefixtures("_mailed")
@pytest.mark.parametrize(("language", "subject"), [("en", "Confirm your e-mail"), ("es", "Confirma tu")])
async def test_who_registers_is_mailed_a_code_that_verifies_the_address(
    api: Client, language: str, subject: str
) -> None:
    email = f"{uuid4().hex}@example.com"
    names = {"firstName": "Ana", "lastName": "Ruiz", "language": language, "phoneNumber": "+34 600 000 000"}
    made = await api.post(f"{AUTH}/register", {"email": email, "password": PASSWORD, **names})
    assert made.body["user"]["emailVerified"] is False
    (mail,) = await mails(api, email, 1)
    assert mail["subject"].startswith(subject)
    assert mail["channel"] == "email"
    assert mail["order_id"] is None
    assert mail["correlation_id"] == made.headers["X-Correlation-Id"]
    code = code_of(mail)
    assert code in mail["body_html"]
    async with api.database.connection() as tx:
        for table in ("account_tokens", "notifications", "sagas", "outbox"):
            rows = await tx.fetch(f"SELECT t::text AS row FROM {table} AS t")
            assert code not in str(rows), f"{table} does not know it"
    assert (await verify(api, code)).status == 204
    assert await is_verified(api, made.body["accessToken"])
    assert is_refused(await verify(api, code)), "it is good once"


@pytest.mark.usefixtures("_mailed")
async def test_a_code_is_mailed_again_and_voids_the_one_before(api: Client) -> None:
    person = await api.person()
    for _ in range(3):
        assert (await api.ask("POST", f"{AUTH}/verify-email/resend", token=person.token)).status == 202
    slowed = await api.ask("POST", f"{AUTH}/verify-email/resend", token=person.token)
    assert (slowed.status, slowed.body["code"]) == (429, "TOO_MANY_REQUESTS")
    assert int(slowed.headers["Retry-After"]) > 0
    codes = {code_of(mail) for mail in await mails(api, person.email, 3)}
    assert sorted([(await verify(api, code)).status for code in codes]) == [204, 422, 422]
    known = await api.ask("POST", f"{AUTH}/verify-email/resend", token=person.token)
    assert (known.status, known.body["code"]) == (409, "EMAIL_VERIFIED")


@pytest.mark.usefixtures("_mailed")
async def test_a_forgotten_password_is_chosen_anew_by_mail(api: Client) -> None:
    person, other = await api.person(), await api.person()
    old = [(await log_in(api, person, PASSWORD)).body["refreshToken"] for _ in range(2)]
    others = (await log_in(api, other, PASSWORD)).body["refreshToken"]
    verification = await sent(api, person, "verify_email")
    asked = await forgot(api, person.email.upper())
    (mail,) = await mails(api, person.email, 1)
    assert mail["correlation_id"] == asked.headers["X-Correlation-Id"]
    code = code_of(mail)
    assert (await reset(api, code)).status == 204
    assert (await log_in(api, person, PASSWORD)).status == 401
    signed_in = await log_in(api, person, NEW)
    assert signed_in.status == 200
    assert signed_in.body["user"]["emailVerified"], "who can read that mailbox has shown that it is theirs"
    assert [(await refreshed(api, token)).status for token in old] == [401, 401]
    assert (await refreshed(api, others)).status == 200, "nobody else is signed out"
    assert is_refused(await reset(api, code, "a third one")), "it is good once"
    assert is_refused(await verify(api, verification)), "what was sent before is void"
    assert (await log_in(api, person, NEW)).status == 200


async def test_whether_an_address_is_known_shows_in_no_answer(api: Client) -> None:
    person, gone = await api.person(), await api.person()
    async with api.database.transaction() as tx:
        await tx.execute("UPDATE accounts SET is_active = false WHERE id = $1", gone.id)

    async def shown(email: str) -> tuple[int, Any, set[str]]:
        reply = await forgot(api, email)
        return reply.status, reply.body, set(reply.headers)

    for _ in range(5):  # more than are sent
        answers = [await shown(email) for email in (person.email, gone.email, "nobody@example.com")]
        assert answers == [answers[0]] * 3
        assert answers[0][:2] == (202, "")
    async with api.database.connection() as tx:
        written = await tx.fetch("SELECT email, count(*) FROM reset_requests GROUP BY email")
        assert {row["count"] for row in written} == {3}, "and the same is written for each"


@pytest.mark.usefixtures("_mailed")
async def test_only_accounts_that_may_sign_in_are_mailed(api: Client) -> None:
    person, gone = await api.person(), await api.person()
    async with api.database.transaction() as tx:
        await tx.execute("UPDATE accounts SET is_active = false WHERE id = $1", gone.id)
    for email in (gone.email, "nobody@example.com", person.email):
        await forgot(api, email)
    await mails(api, person.email, 1)
    async with asyncio.timeout(20):
        while True:
            async with api.database.connection() as tx:
                if not await tx.fetchval("SELECT count(*) FROM reset_requests"):
                    break
            await asyncio.sleep(0.02)
    async with api.database.connection() as tx:
        assert await tx.fetchval("SELECT count(*) FROM account_tokens") == 1
        assert await tx.fetchval("SELECT count(*) FROM notifications") == 1


async def test_asking_for_a_known_address_does_the_same_as_for_an_unknown_one(
    api: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Statement by statement, so that it takes as long."""
    person = await api.person()
    about = {one: name for of in (accounts, attempts, one_time, resets, sessions) for name, one in of._sql.items()}
    made: list[str] = []

    def noting(plain: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def noted(self: Statement, tx: Tx, *arguments: Any) -> Any:
            if self in about:
                made.append(about[self])
            return await plain(self, tx, *arguments)

        return noted

    for way in ("rows", "row", "value", "run"):
        monkeypatch.setattr(Statement, way, noting(getattr(Statement, way)))
    said = []
    for email in (person.email, "nobody@example.com"):
        assert (await forgot(api, email)).status == 202
        said.append(made.copy())
        made.clear()
    assert said[0] == said[1]
    assert "ask" in said[0]


async def test_an_address_asks_for_so_many_mails(api: Client) -> None:
    for number in range(30):
        assert (await forgot(api, f"nobody{number}@example.com")).status == 202
    slowed = await forgot(api, "another@example.com")
    assert (slowed.status, slowed.body["code"]) == (429, "TOO_MANY_REQUESTS")
    assert int(slowed.headers["Retry-After"]) > 0


async def test_a_code_that_is_not_good_is_refused(api: Client) -> None:
    person = await api.person()
    good, verification = await sent(api, person, "reset_password"), await sent(api, person, "verify_email")
    bad = {
        "another purpose": verification,
        "unknown": "x" * 43,
        "changed": f"{good[:-2]}{'AA' if good[-2:] != 'AA' else 'BB'}",
        "an access token": person.token[:200],
        "spaces": f" {good} ",
    }
    for name, token in bad.items():
        reply = await reset(api, token)
        assert (name, reply.status) == (name, 422)
        reply = await verify(api, good if name == "another purpose" else token)
        assert (name, reply.status) == (name, 422)
    for huge in ("x" * 65_536, "x" * 201, "", "a\x00b"):
        for reply in (await reset(api, huge), await verify(api, huge)):
            assert (reply.status, reply.body["code"]) == (422, "VALIDATION_FAILED")
    for password in ("short", "x" * 129, ""):
        assert (await reset(api, good, password)).body["code"] == "VALIDATION_FAILED"
    assert (await log_in(api, person, PASSWORD)).status == 200
    assert (await reset(api, good)).status == 204, "nothing of that used it up"


@pytest.mark.parametrize(("purpose", "lifetime"), [("reset_password", 3600), ("verify_email", 2 * 86400)])
async def test_a_code_expires(api: Client, purpose: Purpose, lifetime: int) -> None:
    person = await api.person()
    use = reset if purpose == "reset_password" else verify

    async def aged(seconds: int) -> Reply:
        token = await sent(api, person, purpose)
        older = "UPDATE account_tokens SET expires_at = expires_at - $1::interval WHERE voided_at IS NULL"
        async with api.database.transaction() as tx:
            await tx.execute(older, timedelta(seconds=seconds))
        return await use(api, token)

    assert is_refused(await aged(lifetime))
    assert (await aged(lifetime - 60)).status == 204
    async with api.database.transaction() as tx:
        assert await one_time.forget(tx, 10) == 0
        await tx.execute("UPDATE account_tokens SET expires_at = expires_at - interval '3 days'")
        assert [await one_time.forget(tx, 1), await one_time.forget(tx, 9)] == [1, 1]


async def test_a_new_code_voids_the_one_before(api: Client) -> None:
    person = await api.person()
    first, second = await sent(api, person, "reset_password"), await sent(api, person, "reset_password")
    assert is_refused(await reset(api, first))
    assert (await reset(api, second)).status == 204


async def test_of_codes_given_out_at_once_one_is_good(api: Client) -> None:
    person = await api.person()
    await asyncio.gather(*(sent(api, person, "reset_password") for _ in range(6)))
    async with api.database.connection() as tx:
        left = await tx.fetch("SELECT id FROM account_tokens WHERE voided_at IS NULL")
    assert len(left) == 1


async def test_of_two_resets_at_once_one_wins(api: Client) -> None:
    for _ in range(3):
        person = await api.person()
        token = await sent(api, person, "reset_password")
        choices = [f"the new password {number}" for number in range(4)]
        replies = await asyncio.gather(*(reset(api, token, one) for one in choices))
        assert sorted(reply.status for reply in replies) == [204, 422, 422, 422]
        (winner,) = [choice for choice, reply in zip(choices, replies, strict=True) if reply.status == 204]
        assert (await log_in(api, person, winner)).status == 200


async def test_no_refresh_survives_a_reset_at_once(api: Client) -> None:
    for _ in range(3):
        person = await api.person()
        refresh = (await log_in(api, person, PASSWORD)).body["refreshToken"]
        token = await sent(api, person, "reset_password")
        done, renewed = await asyncio.gather(reset(api, token), refreshed(api, refresh))
        assert done.status == 204
        for one in (refresh, renewed.body.get("refreshToken", refresh)):
            assert (await refreshed(api, one)).status == 401


async def test_who_is_kept_out_gets_in_by_no_code_even_when_let_in_again(api: Client) -> None:
    admin, person = await api.person("admin"), await api.person()
    codes = await sent(api, person, "reset_password"), await sent(api, person, "verify_email")
    path = f"/api/v1/users/{person.id}"
    assert (await api.ask("PATCH", f"{path}/deactivate", token=admin.token)).status == 200
    assert is_refused(await reset(api, codes[0]))
    assert is_refused(await verify(api, codes[1]))
    later = await sent(api, person, "reset_password")
    assert is_refused(await reset(api, later)), "of an account that is not active"
    assert (await api.ask("PATCH", f"{path}/activate", token=admin.token)).status == 200
    assert is_refused(await reset(api, codes[0]))
    assert is_refused(await verify(api, codes[1]))
    last = await sent(api, person, "reset_password")
    assert (await api.ask("DELETE", path, token=admin.token)).status == 204
    assert is_refused(await reset(api, last))
    assert (await api.get(f"{AUTH}/me", token=person.token)).status == 401


@pytest.mark.usefixtures("_mailed")
async def test_no_staff_but_admins_see_the_codes_of_others(api: Client) -> None:
    admin = await api.person("admin")
    await forgot(api, admin.email)
    code = code_of((await mails(api, admin.email, 1))[0])
    for person in (await api.person("viewer"), await api.person("operator")):
        assert code not in str((await api.get("/api/v1/mailbox", token=person.token)).body)
        assert (await api.get(f"/api/v1/mailbox?recipient={admin.email}", token=person.token)).body["items"] == []
    assert code in str((await api.get("/api/v1/mailbox", token=admin.token)).body)


async def change(api: Client, token: str, current: str, new: str = NEW) -> Reply:
    return await api.post(f"{AUTH}/change-password", {"currentPassword": current, "newPassword": new}, token=token)


async def test_a_changed_password_ends_every_other_session(api: Client) -> None:
    person = await api.person()
    mine, elsewhere = [(await log_in(api, person, PASSWORD)).body for _ in range(2)]
    forgotten, verification = await sent(api, person, "reset_password"), await sent(api, person, "verify_email")
    changed = await change(api, mine["accessToken"], PASSWORD)
    assert changed.status == 200
    assert [(await refreshed(api, one["refreshToken"])).status for one in (mine, elsewhere)] == [401, 401]
    assert (await refreshed(api, changed.body["refreshToken"])).status == 200
    assert (await log_in(api, person, PASSWORD)).status == 401
    assert (await log_in(api, person, NEW)).status == 200
    assert is_refused(await reset(api, forgotten))
    assert (await verify(api, verification)).status == 204


async def test_a_password_is_changed_by_who_knows_it(api: Client) -> None:
    person = await api.person()
    for _ in range(10):
        reply = await change(api, person.token, "a wrong guess")
        assert (reply.status, reply.body["code"]) == (422, "PASSWORD_REFUSED")
    slowed = await change(api, person.token, PASSWORD)
    assert (slowed.status, int(slowed.headers["Retry-After"]) > 0) == (429, True)
    assert (await log_in(api, person, PASSWORD)).status == 200


async def test_of_two_changes_at_once_one_wins(api: Client) -> None:
    person = await api.person()
    choices = [f"the new password {number}" for number in range(4)]
    replies = await asyncio.gather(*(change(api, person.token, PASSWORD, one) for one in choices))
    assert sorted(reply.status for reply in replies) == [200, 422, 422, 422]
    (winner,) = [choice for choice, reply in zip(choices, replies, strict=True) if reply.status == 200]
    assert (await log_in(api, person, winner)).status == 200


@pytest.mark.parametrize("setting", ["on", "off"])
async def test_an_order_needs_a_verified_address_only_where_that_is_set(
    database_url: str, redis_url: str, setting: str
) -> None:
    async with running_api(database_url, redis_url, require_verified_email=setting) as api:
        admin, person = await api.person("admin"), await api.person()
        product = await api.product(admin)
        order = {"items": [{"productId": product["id"], "quantity": 1}]}
        session = (await log_in(api, person, PASSWORD)).body
        reply = await api.post("/api/v1/orders", order, token=session["accessToken"])
        if setting == "off":
            assert reply.status == 202
            return
        assert (reply.status, reply.body["code"]) == (403, "EMAIL_UNVERIFIED")
        assert (await api.post("/api/v1/orders", {"items": "?"}, token=person.token)).status == 403, "before the body"
        assert (await api.post("/api/v1/orders", order, token=admin.token)).status == 202, "staff need none"
        assert (await verify(api, await sent(api, person, "verify_email"))).status == 204
        renewed = (await refreshed(api, session["refreshToken"])).body
        assert (await api.post("/api/v1/orders", order, token=renewed["accessToken"])).status == 202


async def test_a_batch_of_codes_is_spent_as_if_one_came_after_the_other(api: Client) -> None:
    people = [await api.person() for _ in range(3)]
    async with api.database.transaction() as tx:
        ids = await one_time.issue(tx, ONE_TIME, [one.id for one in people], "verify_email")
        tokens = [ONE_TIME.token(one) for one in ids]
        asked = [tokens[1], "unknown", tokens[0], tokens[1]]
        assert await one_time.owners(tx, asked, "verify_email") == [people[1].id, NotGood(), people[0].id, people[1].id]
        assert await one_time.spend(tx, asked, "verify_email") == [people[1].id, NotGood(), people[0].id, NotGood()]
        assert await one_time.spend(tx, tokens, "verify_email") == [NotGood(), NotGood(), people[2].id]


def test_codes_depend_on_the_key_and_are_made_without_none() -> None:
    token_id = uuid4()
    assert ONE_TIME.token(token_id) == OneTime(KEY).token(token_id) != OneTime(KEY[1:]).token(token_id)
    with pytest.raises(ConfigurationFault, match="SECRET_KEY"):
        OneTime("").token(token_id)
