"""How often somebody may try what costs something, or could be guessed.

Wrong passwords are counted in three ways. One e-mail at one address: after ten, a minute, then two, up to a quarter of
an hour. One address: after three hundred (a whole office may stand behind it, or the shop's own proxy), a second, up to
half a minute. One e-mail, wherever the guesses come from: after thirty, a second, up to half a minute, so that nobody
can lock a customer out for long; and where that customer signed in within the last month this one does not count.
"""

from datetime import timedelta
from math import ceil

from comanda.accounts import attempts
from comanda.accounts.attempts import Limit, Try
from comanda.api.parts import Parts
from comanda.api.problems import Problem
from comanda.db import Tx
from comanda.failpoints import Boundary

COUNT = Boundary("attempts.take")

_SECOND, _MINUTE, _HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
PAIR = Limit("login:pair", 10, 15 * _MINUTE, _MINUTE, 15 * _MINUTE)
ADDRESS = Limit("login:address", 300, 10 * _MINUTE, _SECOND, 30 * _SECOND)
EMAIL = Limit("login:email", 30, _HOUR, _SECOND, 30 * _SECOND)
PASSWORD = Limit("password:account", 10, 15 * _MINUTE, _MINUTE, 15 * _MINUTE)
VERIFICATION = Limit("verification:account", 3, _HOUR, 15 * _MINUTE, _HOUR)
RESET_AT_ADDRESS = Limit("reset:address", 30, _HOUR, _MINUTE, 15 * _MINUTE)
RESET_OF_EMAIL = Limit("reset:email", 3, _HOUR, _HOUR, _HOUR)


async def take(tx: Tx, parts: Parts, *tries: Try) -> timedelta:
    """Count a try for each of these; how long they have to wait instead. Where limits are off, nobody has to."""
    if parts.settings.rate_limits == "off":
        return timedelta()
    (wait,) = await attempts.take(tx, [tries])
    return wait


async def count(parts: Parts, *tries: Try) -> None:
    """The same, in a transaction of its own.

    Raises:
        Problem: 429, where one of them has to wait.
    """
    async with parts.database.transaction(COUNT) as tx:
        wait = await take(tx, parts, *tries)
    refuse_to_wait(wait)


async def count_login(parts: Parts, address: str, email: str) -> None:
    """Count a password that may be wrong.

    Raises:
        Problem: 429, where somebody has to wait.
    """
    async with parts.database.transaction(COUNT) as tx:
        (is_familiar,) = await attempts.familiar(tx, [_pair(address, email)])
        anywhere = [] if is_familiar else [(EMAIL, email)]
        wait = await take(tx, parts, (PAIR, _pair(address, email)), (ADDRESS, address), *anywhere)
    refuse_to_wait(wait)


async def let_in(tx: Tx, address: str, email: str) -> None:
    """The password was right: that try costs its address nothing."""
    await attempts.give_back(tx, [(ADDRESS, address)])
    await forgive(tx, address, email)


async def forgive(tx: Tx, address: str, email: str) -> None:
    """Somebody has shown who they are: what was counted for that e-mail is forgotten."""
    await attempts.clear(tx, [(EMAIL, email), (PAIR, _pair(address, email))])
    await attempts.remember(tx, [_pair(address, email)])


def refuse_to_wait(wait: timedelta) -> None:
    """Nobody is kept waiting.

    Raises:
        Problem: 429, where there is a wait.
    """
    if wait:
        raise Problem("TOO_MANY_REQUESTS", headers={"Retry-After": str(ceil(wait.total_seconds()))})


def _pair(address: str, email: str) -> str:
    return f"{address} {email}"
