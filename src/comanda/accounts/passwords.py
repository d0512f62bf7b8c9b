"""Passwords: argon2id, computed in threads of its own so that the loop goes on meanwhile."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import cache

from pwdlib import PasswordHash
from pwdlib.exceptions import UnknownHashError
from pwdlib.hashers.argon2 import Argon2Hasher

SHORTEST, LONGEST = 8, 128

# OWASP's setting of 19 MiB. Two threads, so that a flood of logins can take neither memory nor every core.
_HASHER = PasswordHash((Argon2Hasher(time_cost=2, memory_cost=19 * 1024, parallelism=1),))
_THREADS = ThreadPoolExecutor(2, thread_name_prefix="argon2")


async def hashed(password: str) -> str:
    """The hash that is stored."""
    return await asyncio.get_running_loop().run_in_executor(_THREADS, _HASHER.hash, password)


async def matches(password: str, password_hash: str | None) -> bool:
    """Whether it is the password; None, for a user that isn't there, takes as long as a wrong password."""
    return await asyncio.get_running_loop().run_in_executor(_THREADS, _verify, password, password_hash)


@cache
def _nobody() -> str:
    return _HASHER.hash("the password of nobody")


def _verify(password: str, password_hash: str | None) -> bool:
    try:
        is_right = _HASHER.verify(password, password_hash or _nobody())
    except UnknownHashError:
        return False
    return is_right and password_hash is not None
