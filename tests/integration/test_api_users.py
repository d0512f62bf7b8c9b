"""Accounts over HTTP, as admins keep them."""

import asyncio
import json
from datetime import timedelta
from typing import Any
from uuid import uuid4

from api_client import PASSWORD, Client, Person
from comanda.accounts import console_sessions
from comanda.audit import acts

PATH = "/api/v1/users"


def draft(**more: Any) -> dict[str, Any]:
    return {"email": f"{uuid4().hex}@example.com", "password": PASSWORD, "firstName": "Ana", "lastName": "Ruiz", **more}


async def signed_in(api: Client, email: str) -> tuple[int, Any]:
    reply = await api.post("/api/v1/auth/login", {"email": email, "password": PASSWORD})
    return reply.status, reply.body


async def test_an_account_of_any_role_is_made_and_can_sign_in(api: Client) -> None:
    admin = await api.person("admin")
    for role in ("viewer", "operator", "admin", "customer"):
        sent = draft(role=role, phoneNumber="+34 600 000 000", language="es")
        reply = await api.post(PATH, sent, token=admin.token)
        assert reply.status == 201
        assert "password" not in str(reply.body).lower()
        assert (await api.get(reply.headers["Location"], token=admin.token)).body == reply.body
        status, session = await signed_in(api, sent["email"])
        assert (status, session["user"]["role"]) == (200, role)
    taken = await api.post(PATH, {**sent, "email": sent["email"].upper()}, token=admin.token)
    assert (taken.status, taken.body["code"]) == (409, "EMAIL_TAKEN")
    assert (await api.post(PATH, draft(role="owner"), token=admin.token)).status == 422


async def test_only_admins_see_or_change_others(api: Client) -> None:
    customer = await api.person()
    others = [await api.person(role) for role in ("customer", "viewer", "operator")]
    one = f"{PATH}/{customer.id}"
    asked: list[tuple[str, str, Any]] = [("GET", PATH, None), ("POST", PATH, draft()), ("GET", one, None)]
    asked += [("PATCH", one, {"role": "admin"}), ("DELETE", one, None)]
    asked += [("PATCH", f"{one}/{act}", None) for act in ("activate", "deactivate")]
    for method, path, body in asked:
        assert (await api.ask(method, path, json=body)).status == 401
        for who in [customer, *others]:
            assert (await api.ask(method, path, json=body, token=who.token)).status == 403
    mine = await api.get(f"{PATH}/profile", token=customer.token)
    assert (mine.status, mine.body["id"]) == (200, str(customer.id))
    assert (await api.get(f"{PATH}/profile")).status == 401


async def test_they_are_found_sorted_and_paged(api: Client) -> None:
    admin = await api.person("admin")
    for name in ("Zoe", "Ada", "Mia"):
        await api.post(PATH, draft(firstName=name, lastName="Gómez", role="viewer"), token=admin.token)

    async def names(**query: Any) -> list[str]:
        reply = await api.get(PATH, params=query, token=admin.token)
        assert reply.status == 200, reply
        return [one["firstName"] for one in reply.body["items"]]

    assert await names(search="GÓMEZ", sortBy="firstName", sortOrder="asc") == ["Ada", "Mia", "Zoe"]
    assert await names(role="viewer", sortBy="firstName") == ["Zoe", "Mia", "Ada"]
    assert await names(role="viewer") == ["Mia", "Ada", "Zoe"], "the newest first"
    assert await names(role="viewer", sortOrder="asc", limit=2, page=2) == ["Mia"]
    assert await names(role="viewer", status="inactive") == []
    page = (await api.get(PATH, params={"role": "viewer", "limit": 2}, token=admin.token)).body
    assert (page["total"], page["totalPages"], len(page["items"])) == (3, 2, 2)
    beyond = (await api.get(PATH, params={"role": "viewer", "page": 9}, token=admin.token)).body
    assert (beyond["total"], beyond["items"]) == (3, [])
    for query in ({"limit": 101}, {"sortBy": "password"}, {"role": "owner"}):
        assert (await api.get(PATH, params=query, token=admin.token)).status == 422


async def test_a_patch_changes_what_it_names_and_a_role_at_once(api: Client) -> None:
    admin, one = await api.person("admin"), await api.person()
    path = f"{PATH}/{one.id}"
    changed = await api.ask("PATCH", path, json={"firstName": "Eva", "phoneNumber": "+1 555 0100"}, token=admin.token)
    assert (changed.body["firstName"], changed.body["lastName"]) == ("Eva", "Ruiz")
    emptied = await api.ask("PATCH", path, json={"phoneNumber": None}, token=admin.token)
    assert emptied.body["phoneNumber"] is None
    for body in ({}, {"firstName": None}, {"email": "x@example.com"}, {"password": "another one"}):
        assert (await api.ask("PATCH", path, json=body, token=admin.token)).status == 422
    assert (await api.ask("PATCH", path, json={"role": "viewer"}, token=admin.token)).body["role"] == "viewer"
    assert (await api.get("/api/v1/auth/me", token=one.token)).status == 401, "its token says another role"
    assert (await api.ask("PATCH", f"{PATH}/{uuid4()}", json={"role": "viewer"}, token=admin.token)).status == 404


async def test_a_new_role_ends_every_session_and_what_admins_do_is_written_down(api: Client) -> None:
    admin, one = await api.person("admin"), await api.person("operator")
    path = f"{PATH}/{one.id}"
    _, session = await signed_in(api, one.email)
    async with api.database.transaction() as tx:
        (cookie,) = await console_sessions.begin(tx, [one.id], timedelta(hours=12))

    async def is_in() -> bool:
        async with api.database.connection() as tx:
            return await console_sessions.find(tx, [cookie]) == [one.id]

    assert (await api.ask("PATCH", path, json={"role": "operator"}, token=admin.token)).status == 200
    assert await is_in(), "the role is the same"
    assert (await api.ask("PATCH", path, json={"role": "viewer"}, token=admin.token)).status == 200
    assert not await is_in()
    assert (await api.post("/api/v1/auth/refresh", {"refreshToken": session["refreshToken"]})).status == 401
    for act in ("deactivate", "activate"):
        assert (await api.ask("PATCH", f"{path}/{act}", token=admin.token)).status == 200
    assert (await api.ask("PATCH", f"{PATH}/{uuid4()}/deactivate", token=admin.token)).status == 404
    assert (await api.ask("DELETE", path, token=admin.token)).status == 204
    async with api.database.connection() as tx:
        told = await acts.listed(tx)
    assert [row["act"] for row in told] == ["user.delete", "user.activate", "user.deactivate", "user.role"]
    assert {(row["actor"], row["subject"]) for row in told} == {(admin.email, str(one.id))}
    assert json.loads(told[-1]["detail"]) == {"was": "operator", "now": "viewer"}


async def test_who_is_kept_out_is_out_at_once_until_let_in_again(api: Client) -> None:
    admin, one = await api.person("admin"), await api.person()
    status, session = await signed_in(api, one.email)
    assert status == 200
    path = f"{PATH}/{one.id}"
    assert (await api.ask("PATCH", f"{path}/deactivate", token=admin.token)).body["isActive"] is False
    assert (await api.get("/api/v1/auth/me", token=one.token)).status == 401
    token = {"refreshToken": session["refreshToken"]}
    assert (await api.post("/api/v1/auth/refresh", token)).status == 401
    assert (await signed_in(api, one.email))[0] == 401
    assert (await api.ask("PATCH", f"{path}/activate", token=admin.token)).body["isActive"] is True
    assert (await signed_in(api, one.email))[0] == 200
    assert (await api.post("/api/v1/auth/refresh", token)).status == 401, "an ended session does not come back"


async def test_a_deleted_account_is_gone_and_its_address_stays_taken(api: Client) -> None:
    admin, one = await api.person("admin"), await api.person()
    path = f"{PATH}/{one.id}"
    assert (await api.ask("DELETE", path, token=admin.token)).status == 204
    for method, at in (("DELETE", path), ("GET", path), ("PATCH", f"{path}/activate")):
        reply = await api.ask(method, at, token=admin.token)
        assert (reply.status, reply.body["code"]) == (404, "USER_NOT_FOUND")
    assert (await api.get("/api/v1/auth/me", token=one.token)).status == 401
    assert (await signed_in(api, one.email))[0] == 401
    assert (await api.post(PATH, draft(email=one.email), token=admin.token)).status == 409
    assert one.email not in str((await api.get(PATH, params={"limit": 100}, token=admin.token)).body)


async def test_the_last_admin_stays_whoever_acts_at_once(api: Client) -> None:
    async with api.database.transaction() as tx:
        await tx.execute("UPDATE accounts SET is_active = false WHERE role = 'admin'")
    first, second = await api.person("admin"), await api.person("admin")

    async def disarm(who: Person, other: Person) -> int:
        return (await api.ask("PATCH", f"{PATH}/{other.id}", json={"role": "viewer"}, token=who.token)).status

    answers = sorted(await asyncio.gather(disarm(first, second), disarm(second, first)))
    assert answers[0] == 200
    assert answers[1] in {401, 403, 409}, "it lost its rights, or would have taken the last ones"
    async with api.database.connection() as tx:
        left = await tx.fetch("SELECT id FROM accounts WHERE role = 'admin' AND is_active")
    assert len(left) == 1
    last = next(one for one in (first, second) if one.id == left[0]["id"])
    path = f"{PATH}/{last.id}"
    for method, at, body in (
        ("PATCH", path, {"role": "customer"}),
        ("DELETE", path, None),
        ("PATCH", f"{path}/deactivate", None),
    ):
        reply = await api.ask(method, at, json=body, token=last.token)
        assert (reply.status, reply.body["code"]) == (409, "LAST_ADMIN")
    assert (await api.ask("PATCH", path, json={"firstName": "Still"}, token=last.token)).status == 200
