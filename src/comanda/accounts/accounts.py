"""Accounts: customers and staff."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal
from uuid import UUID

from comanda.accounts import passwords
from comanda.clock import new_id
from comanda.db import Record, Tx, twin

_sql = twin(__file__)
REGISTER = _sql["register"]
FIND = _sql["find"]
BY_EMAIL = _sql["by_email"]

Role = Literal["admin", "operator", "viewer", "customer"]
STAFF: tuple[Role, ...] = ("admin", "operator", "viewer")
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


@dataclass(frozen=True, slots=True)
class EmailTaken:
    """Refused: there is an account for that address, however it is written."""

    email: str


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


async def by_email(tx: Tx, emails: Sequence[str]) -> list[Account | None]:
    """Accounts by their addresses, in any spelling; None where there is none."""
    found: list[Account | None] = [None] * len(emails)
    for row in await BY_EMAIL.rows(tx, emails):
        fields = dict(row)
        position = fields.pop("position")
        found[position - 1] = Account(**fields)
    return found


async def ensure_admin(tx: Tx, email: str, password: str) -> bool:
    """Make the first user, with the role admin; True when that was needed.

    An account that exists under this address stays as it is: whoever registered it must not become an admin by it.
    """
    if (await by_email(tx, [email]))[0] is not None:
        return False
    wanted = Registration(email, await passwords.hashed(password), "Comanda", "Admin", role="admin")
    return isinstance((await register(tx, [wanted]))[0], Account)
