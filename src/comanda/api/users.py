"""Accounts, as admins keep them."""

from typing import Annotated, Literal
from uuid import UUID

from fastapi import Query, Response

from comanda.accounts import accounts, one_time, sessions
from comanda.accounts.accounts import Account, EmailTaken, LastAdmin, Role, SortBy
from comanda.api.answers import AccountAnswer, AccountPage
from comanda.api.auth import registration
from comanda.api.bodies import IS_ACTIVE, Limit, Page, Search, Shown, UserBody, UserPatch
from comanda.api.conditional import TAGGED, Asked, IfMatch, marked, single, unchanged
from comanda.api.document import answers
from comanda.api.paging import Numbers
from comanda.api.parts import Given, Parts
from comanda.api.problems import Problem
from comanda.api.security import Admin, SignedIn, router
from comanda.audit import acts
from comanda.audit.acts import Act
from comanda.db import Tx
from comanda.failpoints import Boundary

CREATE = Boundary("users.create")
CHANGE = Boundary("users.change")
DELETE = Boundary("users.delete")
ACTIVATE = Boundary("users.activate")

routes = router("/users", "users")


@routes.post("", status_code=201, responses=answers("EMAIL_TAKEN"))
async def create(account: Admin, body: UserBody, parts: Given, response: Response) -> AccountAnswer:
    """Make an account of any role."""
    wanted = await registration(body, body.role)
    async with parts.database.transaction(CREATE) as tx:
        made = (await accounts.register(tx, [wanted]))[0]
        if isinstance(made, Account):
            await acts.note(tx, [Act(account.email, "user.create", str(made.id), detail={"role": made.role})])
    if isinstance(made, EmailTaken):
        raise Problem("EMAIL_TAKEN")
    response.headers["Location"] = f"/api/v1/users/{made.id}"
    return marked(response, AccountAnswer.model_validate(made))


@routes.get("")
async def page(
    account: Admin,
    parts: Given,
    numbers: Numbers,
    *,
    search: Search | None = None,
    status: Shown = "all",
    role: Role | None = None,
    page: Page = 1,
    limit: Limit = 20,
    sort_by: Annotated[SortBy, Query(alias="sortBy")] = "createdAt",
    sort_order: Annotated[Literal["asc", "desc"], Query(alias="sortOrder")] = "desc",
) -> AccountPage:
    """Accounts, a page at a time. `search` looks into e-mail and names."""
    found, total = await parts.lists.read(
        account.id,
        lambda tx: accounts.page(
            tx,
            search=search,
            is_active=IS_ACTIVE[status],
            role=role,
            sort_by=sort_by,
            is_ascending=sort_order == "asc",
            number=page,
            limit=limit,
        ),
    )
    return AccountPage(
        items=[AccountAnswer.model_validate(one) for one in found],
        **numbers(page, limit, total),
    )


@routes.get("/profile")
async def profile(account: SignedIn) -> AccountAnswer:
    """Who is signed in."""
    return AccountAnswer.model_validate(account)


@routes.get("/{user_id}", response_model=AccountAnswer, responses=TAGGED | answers("USER_NOT_FOUND"))
async def read(_account: Admin, user_id: UUID, parts: Given, asked: Asked) -> Response:
    """One account."""
    async with parts.database.connection() as tx:
        found = (await accounts.living(tx, [user_id]))[0]
    return single(asked, _granted(found))


@routes.patch("/{user_id}", responses=answers("USER_NOT_FOUND", "LAST_ADMIN"))
async def change(
    account: Admin, user_id: UUID, body: UserPatch, parts: Given, if_match: IfMatch, response: Response
) -> AccountAnswer:
    """Change some fields of an account. Of another role, it has to sign in again."""
    async with parts.database.transaction(CHANGE) as tx:
        await unchanged(tx, if_match, accounts.locked, user_id, AccountAnswer)
        (was,) = await accounts.living(tx, [user_id])
        changed = (await accounts.change(tx, [(user_id, body.changes())]))[0]
        if was is not None and isinstance(changed, Account) and changed.role != was.role:
            await sessions.revoke_all(tx, [user_id])
            roles = {"was": was.role, "now": changed.role}
            await acts.note(tx, [Act(account.email, "user.role", str(user_id), detail=roles)])
    return marked(response, _granted(changed))


@routes.delete("/{user_id}", status_code=204, responses=answers("USER_NOT_FOUND", "LAST_ADMIN"))
async def delete(account: Admin, user_id: UUID, parts: Given, if_match: IfMatch) -> Response:
    """Delete an account and end all its sessions. Its orders stay; its e-mail stays taken."""
    async with parts.database.transaction(DELETE) as tx:
        await unchanged(tx, if_match, accounts.locked, user_id, AccountAnswer)
        is_gone = (await accounts.delete(tx, [user_id]))[0]
        if is_gone is True:
            await _shut_out(tx, user_id)
            await acts.note(tx, [Act(account.email, "user.delete", str(user_id))])
    if isinstance(is_gone, LastAdmin):
        raise Problem("LAST_ADMIN")
    if not is_gone:
        raise Problem("USER_NOT_FOUND")
    return Response(status_code=204)


@routes.patch("/{user_id}/activate", responses=answers("USER_NOT_FOUND"))
async def activate(account: Admin, user_id: UUID, parts: Given, if_match: IfMatch, response: Response) -> AccountAnswer:
    """Let somebody sign in again."""
    return marked(response, await _set_active(account, parts, user_id, if_match, is_active=True))


@routes.patch("/{user_id}/deactivate", responses=answers("USER_NOT_FOUND", "LAST_ADMIN"))
async def deactivate(
    account: Admin, user_id: UUID, parts: Given, if_match: IfMatch, response: Response
) -> AccountAnswer:
    """Keep somebody out, at once: sessions end, and nothing can be ordered."""
    return marked(response, await _set_active(account, parts, user_id, if_match, is_active=False))


async def _set_active(
    admin: Account, parts: Parts, user_id: UUID, if_match: IfMatch, *, is_active: bool
) -> AccountAnswer:
    async with parts.database.transaction(ACTIVATE) as tx:
        await unchanged(tx, if_match, accounts.locked, user_id, AccountAnswer)
        changed = (await accounts.change(tx, [(user_id, {"is_active": is_active})]))[0]
        if isinstance(changed, Account):
            if not is_active:
                await _shut_out(tx, user_id)
            act = "user.activate" if is_active else "user.deactivate"
            await acts.note(tx, [Act(admin.email, act, str(user_id))])
    return _granted(changed)


async def _shut_out(tx: Tx, user_id: UUID) -> None:
    """End every session; what was mailed is not good any more either, should the account come back."""
    await sessions.revoke_all(tx, [user_id])
    await one_time.void(tx, [user_id])


def _granted(found: Account | LastAdmin | None) -> AccountAnswer:
    if isinstance(found, LastAdmin):
        raise Problem("LAST_ADMIN")
    if found is None:
        raise Problem("USER_NOT_FOUND")
    return AccountAnswer.model_validate(found)
