"""Whose orders an account sees: its own, and everybody's for staff."""

from uuid import UUID

from comanda.accounts.accounts import STAFF, Account
from comanda.api.parts import Parts
from comanda.api.problems import Problem
from comanda.orders import reads
from comanda.orders.reads import Status


def may_see(account: Account, customer_id: UUID) -> bool:
    """Whether that account sees the orders of that customer."""
    return account.id == customer_id or account.role in STAFF


async def visible(parts: Parts, account: Account, order_id: UUID) -> Status:
    """Where that order stands. Another customer's is not there: raises `Problem` ORDER_NOT_FOUND."""
    async with parts.database.connection() as tx:
        (found,) = await reads.statuses(tx, [order_id])
    if found is None or not may_see(account, found.customer_id):
        raise Problem("ORDER_NOT_FOUND")
    return found
