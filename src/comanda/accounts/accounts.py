"""Accounts: customers and staff."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from comanda.accounts import passwords
from comanda.clock import new_id
from comanda.db import Record, Tx, literally, twin

_sql = twin(__file__)
REGISTER = _sql["register"]
FIND = _sql["find"]
HOLD = _sql["hold"]
BY_EMAIL = _sql["by_email"]
PAGE = _sql["page"]
NEWEST = _sql["newest"]
COUNT = _sql["count"]
LIVING = _sql["living"]
LOCKED = _sql["locked"]
STILL = _sql["still"]
LOCK_ADMINS = _sql["lock_admins"]
OTHER_ADMINS = _sql["other_admins"]
REWRITE = _sql["rewrite"]
DELETE = _sql["delete"]
SET_PASSWORDS = _sql["set_passwords"]
VERIFY = _sql["verify"]
HAS_STAFF = _sql["has_staff"]

SortBy = Literal["createdAt", "email", "firstName", "lastName"]
Role = Literal["admin", "operator", "viewer", "customer"]
OPERATORS: tuple[Role, ...] = ("admin", "operator")
"""Those of the staff who may act."""
STAFF: tuple[Role, ...] = (*OPERATORS, "viewer")
ROLES: tuple[Role, ...] = (*STAFF, "customer")


@dataclass(frozen=True, slots=True)
class Registration:
    """Somebody who wants an account. The password comes hashed (see `passwords.hashed`)."""

    email: str
    password_hash: str
    first_name: str
    last_name: str
    phone_number: str | None = None
    language: Literal["en", "es"] = "en"
    role: Role = "customer"
    id: UUID = field(default_factory=new_id)


@dataclass(frozen=True, slots=True)
class Account:
    """`is_active` is False for a deleted one too: whoever has such an account can't sign in."""

    id: UUID
    email: str
    password_hash: str = field(repr=False)
    first_name: str
    last_name: str
    phone_number: str | None
    language: str
    role: Role
    is_active: bool
    created_at: datetime
    updated_at: datetime
    email_verified_at: datetime | None

    @property
    def email_verified(self) -> bool:
        """Whether somebody has shown that the address is theirs."""
        return self.email_verified_at is not None


@dataclass(frozen=True, slots=True)
class EmailTaken:
    """Refused: there is an account for that address, however it is written."""

    email: str


@dataclass(frozen=True, slots=True)
class LastAdmin:
    """Refused: nobody would be left who may do everything."""


def _account(row: Record) -> Account:
    return Account(**dict(row))


async def register(tx: Tx, registrations: Sequence[Registration]) -> list[Account | EmailTaken]:
    """Make accounts. Of two for one address the first gets it."""
    rows = await REGISTER.rows(
        tx,
        [one.id for one in registrations],
        [one.email for one in registrations],
        [one.password_hash for one in registrations],
        [one.first_name for one in registrations],
        [one.last_name for one in registrations],
        [one.phone_number for one in registrations],
        [one.language for one in registrations],
        [one.role for one in registrations],
    )
    made = {row["id"]: _account(row) for row in rows}
    return [made.get(one.id) or EmailTaken(one.email) for one in registrations]


async def find(tx: Tx, ids: Sequence[UUID]) -> list[Account | None]:
    """Accounts by their ids; None where there is none."""
    found = {row["id"]: _account(row) for row in await FIND.rows(tx, ids)}
    return [found.get(one) for one in ids]


async def hold(tx: Tx, ids: Sequence[UUID]) -> list[Account | None]:
    """The same, and nothing of it changes before the transaction ends."""
    found = {row["id"]: _account(row) for row in await HOLD.rows(tx, ids)}
    return [found.get(one) for one in ids]


async def by_email(tx: Tx, emails: Sequence[str]) -> list[Account | None]:
    """Accounts by their addresses, in any spelling; None where there is none."""
    found: list[Account | None] = [None] * len(emails)
    for row in await BY_EMAIL.rows(tx, emails):
        fields = dict(row)
        position = fields.pop("position")
        found[position - 1] = Account(**fields)
    return found


async def has_staff(tx: Tx) -> bool:
    """Whether anybody is there who is no customer."""
    found: bool = await HAS_STAFF.value(tx)
    return found


async def page(
    tx: Tx,
    *,
    search: str | None,
    is_active: bool | None,
    role: Role | None,
    sort_by: SortBy,
    is_ascending: bool,
    number: int,
    limit: int,
) -> tuple[list[Account], int]:
    """One page of the accounts that are not deleted, and how many there are in all."""
    order = "asc" if is_ascending else "desc"
    rows = await PAGE.rows(tx, search, is_active, role, sort_by, order, (number - 1) * limit, limit)
    total = rows[0]["total"] if rows else await COUNT.value(tx, search, is_active, role)
    return [Account(**{name: value for name, value in row.items() if name != "total"}) for row in rows], total


async def newest(tx: Tx, *, search: str | None, role: Role | None, before: UUID | None, limit: int) -> list[Account]:
    """The newest accounts that are not deleted, older than `before`; `search`: a part of their address and names."""
    pattern = None if search is None else literally(search)
    return [_account(row) for row in await NEWEST.rows(tx, before or UUID(int=2**128 - 1), pattern, role, limit)]


async def living(tx: Tx, ids: Sequence[UUID]) -> list[Account | None]:
    """Those that are not deleted."""
    found = {row["id"]: _account(row) for row in await LIVING.rows(tx, ids)}
    return [found.get(one) for one in ids]


async def locked(tx: Tx, ids: Sequence[UUID]) -> list[Account | None]:
    """The same, and nobody else changes them before the transaction ends."""
    await LOCK_ADMINS.run(tx)  # before any row, as whoever changes one does
    found = {row["id"]: _account(row) for row in await LOCKED.rows(tx, ids)}
    return [found.get(one) for one in ids]


async def still(tx: Tx, known: Sequence[tuple[UUID, str]]) -> set[tuple[UUID, str]]:
    """Those that may still sign in, and in that role."""
    rows = await STILL.rows(tx, [account_id for account_id, _ in known], [role for _, role in known])
    return {(row["id"], row["role"]) for row in rows}


async def change(tx: Tx, changes: Sequence[tuple[UUID, Mapping[str, Any]]]) -> list[Account | LastAdmin | None]:
    """Change some fields of accounts; each as it is now, or None where there is none.

    Tokens of a changed role, or of an account that is not active any more, are refused from then on.
    """
    await LOCK_ADMINS.run(tx)
    ids = [account_id for account_id, _ in changes]
    known = await living(tx, ids)
    wanted = [
        replace(account, **fields) for account, (_, fields) in zip(known, changes, strict=True) if account is not None
    ]
    if await _leaves_no_admin(tx, known, [one for one in wanted if one.role == "admin" and one.is_active]):
        return [LastAdmin()] * len(changes)
    rows = await REWRITE.rows(
        tx,
        [one.id for one in wanted],
        [one.first_name for one in wanted],
        [one.last_name for one in wanted],
        [one.phone_number for one in wanted],
        [one.language for one in wanted],
        [one.role for one in wanted],
        [one.is_active for one in wanted],
    )
    changed = {row["id"]: _account(row) for row in rows}
    return [changed.get(one) for one in ids]


async def delete(tx: Tx, ids: Sequence[UUID]) -> list[bool | LastAdmin]:
    """Delete accounts; whether each was there. Their orders stay, and their addresses stay taken."""
    await LOCK_ADMINS.run(tx)
    known = await living(tx, ids)
    if await _leaves_no_admin(tx, known, []):
        return [LastAdmin()] * len(ids)
    await DELETE.run(tx, [one.id for one in known if one is not None])
    return [one is not None for one in known]


async def set_passwords(tx: Tx, new: Sequence[tuple[UUID, str, str | None]]) -> list[bool]:
    """Give accounts passwords: (account, hash, the hash that it replaces or None for whatever is there).

    False where it is another one by now, or the account is not active. An account may stand there once.
    """
    rows = await SET_PASSWORDS.rows(
        tx,
        [account_id for account_id, _, _ in new],
        [password_hash for _, password_hash, _ in new],
        [old_hash for _, _, old_hash in new],
    )
    done = {row["id"] for row in rows}
    return [account_id in done for account_id, _, _ in new]


async def verify(tx: Tx, ids: Sequence[UUID]) -> None:
    """Somebody has shown that these accounts' addresses are theirs."""
    await VERIFY.run(tx, ids)


async def _leaves_no_admin(tx: Tx, before: Sequence[Account | None], admins_left: Sequence[Account]) -> bool:
    were = [one.id for one in before if one is not None and one.role == "admin" and one.is_active]
    return bool(were) and not admins_left and not await OTHER_ADMINS.value(tx, were)


async def ensure_admin(tx: Tx, email: str, password: str) -> bool:
    """Make the first user, with the role admin; True when that was needed.

    An account that exists under this address stays as it is: whoever registered it must not become an admin by it.
    """
    if (await by_email(tx, [email]))[0] is not None:
        return False
    wanted = Registration(email, await passwords.hashed(password), "Comanda", "Admin", role="admin")
    return isinstance((await register(tx, [wanted]))[0], Account)
