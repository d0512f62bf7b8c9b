"""How many requests a client may make: judged in this process, settled with the others ten times a second.

A request never waits for Redis. Each process admits by what it knows; what it has admitted it adds to the shared
buckets with its next round, and learns there what the others have. What several let in at once beyond the limit is
owed: no request of that client gets in until it is paid back. While Redis is away, or does
not answer at once, the limit holds for each process; when it is back, or was emptied, each tells it all that it knows.
"""

import asyncio
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from ipaddress import IPv6Address, IPv6Network, ip_address
from math import ceil
from typing import Literal, Protocol, Self
from uuid import UUID

from starlette.types import Scope

from comanda import telemetry
from comanda.accounts import console_sessions
from comanda.accounts.accounts import STAFF
from comanda.accounts.tokens import Bearer
from comanda.errors import RedisFault
from comanda.networks import Address, Network, is_within, unmapped
from comanda.resilience import limits
from comanda.resilience.limits import Quota
from comanda.resilience.loops import nap
from comanda.settings import Settings

Class = Literal["auth", "orders", "status", "read", "write"]

STAFF_FACTOR = 10
ROUND_SECONDS = 0.1
_CONSOLE = ("/admin", "/admin/")
_COOKIE = f"{console_sessions.COOKIE}=".encode()
_MOST_SESSIONS = 10_000
_MOST_IN_A_ROUND = 1000  # clients in one call of Redis
_PATIENCE = 0.1  # seconds that Redis may take for it
_TIDY_ABOVE = 10_000  # clients whose buckets are kept, full ones too
_SUBNET_BITS = 64  # what one IPv6 customer has
_POLLED = re.compile(r"/api/v1/orders/[^/]+/(status|events)")
_NEVER = {"/metrics", *(f"/api/v1/health{what}" for what in ("", "/live", "/ready", "/detailed"))}
_READING = {"GET", "HEAD", "OPTIONS"}
_FORWARDED = b"x-forwarded-for"
_SCHEME = b"x-forwarded-proto"

_Key = tuple[Class, UUID | str]


class Shared(Protocol):
    """Buckets that all processes see."""

    async def settle(self, told: Mapping[str, tuple[float, float]]) -> tuple[bytes, list[float]]:
        """Add what was (known, taken), in seconds; the index's name, and the seconds until each bucket is full."""


@dataclass(frozen=True, slots=True)
class Ruling:
    """Whether a request may come in, and the headers that say what is left."""

    is_in: bool
    headers: Sequence[tuple[bytes, bytes]]


class RateLimits:
    """Buckets of this process.

    Args:
        quotas: of each class of routes; staff have ten times as much.
        bearer: whose token it is.
        shared: Redis.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        quotas: Mapping[Class, Quota],
        bearer: Bearer,
        shared: Shared,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._quotas = {
            (name, is_staff): replace(quota, requests=quota.requests * (STAFF_FACTOR if is_staff else 1))
            for name, quota in quotas.items()
            for is_staff in (False, True)
        }
        self._policies = {
            key: (b"ratelimit-policy", f'"{key[0]}";q={quota.requests};w={quota.seconds:.0f}'.encode())
            for key, quota in self._quotas.items()
        }
        self._refused = {name: telemetry.LIMITED.labels(name) for name in quotas}
        self._bearer = bearer
        self._shared = shared
        self._clock = clock
        self._sessions: dict[str, UUID] = {}  # of the console, met lately
        self._full_at: dict[_Key, float] = {}
        self._untold: dict[_Key, float] = {}  # seconds of filling up
        self._knows_until = 0.0  # by then every bucket here is full
        self._told: bytes | None = None  # the index that was told all that is known here; None: it may lack something

    @classmethod
    def of(cls, settings: Settings, bearer: Bearer, shared: Shared) -> Self | None:
        """As they are set; None: off."""
        if settings.rate_limits == "off":
            return None
        rates: Mapping[Class, tuple[int, int]] = {
            "auth": settings.rate_auth,
            "orders": settings.rate_orders,
            "status": settings.rate_status,
            "read": settings.rate_read,
            "write": settings.rate_write,
        }
        return cls({name: Quota(*rate) for name, rate in rates.items()}, bearer, shared)

    def rule(self, scope: Scope, authorization: bytes | None) -> Ruling | None:
        """Count a request; None: such a one is not limited."""
        kind = class_of(scope["method"], scope["path"])
        if kind is None:
            return None
        # Signing in is counted by address alone: each account's token would open a fresh bucket of guesses.
        claims = self._bearer.claims(authorization) if kind != "auth" else None
        session = self._sessions.get(session_of(scope)) if self._sessions and kind != "auth" else None
        who: UUID | str
        if session is not None:
            who, is_staff = session, True
        elif claims is None:
            client = scope["client"]
            who, is_staff = network_of(client[0] if client else ""), False
        else:
            who, is_staff = claims.account_id, claims.role in STAFF
        return self.take(kind, who, is_staff=is_staff)

    def meet(self, token: str, account_id: UUID | None) -> None:
        """A session of the console has been looked up: it counts as its account's from here on. None: it is over."""
        self._sessions.pop(token, None)
        if account_id is not None:
            self._sessions[token] = account_id
            if len(self._sessions) > _MOST_SESSIONS:
                del self._sessions[next(iter(self._sessions))]  # whom nobody has met for the longest time

    def take(self, kind: Class, who: UUID | str, *, is_staff: bool = False) -> Ruling:
        """Count a request of a class by an account, or by an address without one."""
        quota, key, now = self._quotas[kind, is_staff], (kind, who), self._clock()
        full_at = self._full_at.get(key, now)
        after = limits.admit(quota, full_at, now)
        if after is not None:
            self._full_at[key] = full_at = after
            self._knows_until = max(self._knows_until, after)
            self._untold[key] = self._untold.get(key, 0.0) + quota.interval
        told = f'"{kind}";r={limits.left(quota, full_at, now)};t={ceil(max(0.0, full_at - now))}'
        headers = [self._policies[kind, is_staff], (b"ratelimit", told.encode())]
        if after is None:
            self._refused[kind].inc()
            headers.append((b"retry-after", str(max(1, ceil(limits.wait(quota, full_at, now)))).encode()))
        return Ruling(after is not None, headers)

    async def run(self, stop: asyncio.Event) -> None:
        """Settle with the other processes until told to stop."""
        while not stop.is_set():
            await self.settle()
            await nap(ROUND_SECONDS, stop)

    async def settle(self) -> None:
        """Tell what was let in since the last time, and learn what the others have."""
        untold, self._untold = list(self._untold.items()), {}
        try:
            if untold or self._knows_until > self._clock():
                await self._tell([(key, 0.0, taken) for key, taken in untold])
        except (RedisFault, TimeoutError):
            # It counts here all the same; the breakdown itself is told by those who rest on Redis.
            self._told = None
        if len(self._full_at) > _TIDY_ABOVE:
            now = self._clock()
            self._full_at = {key: full_at for key, full_at in self._full_at.items() if full_at > now}

    async def _tell(self, taken: Sequence[tuple[_Key, float, float]]) -> None:
        index = await self._settle(taken)
        if index is None or index != self._told:
            # Another process may let in whom only this one knows to have had enough.
            now = self._clock()
            known = [(key, full_at - now - self._untold.get(key, 0.0)) for key, full_at in self._full_at.items()]
            self._told = await self._settle([(key, ahead, 0.0) for key, ahead in known if ahead > 0])

    async def _settle(self, told: Sequence[tuple[_Key, float, float]]) -> bytes | None:
        """In portions; which index was told, None where it was emptied meanwhile."""
        portions = [told[at : at + _MOST_IN_A_ROUND] for at in range(0, len(told), _MOST_IN_A_ROUND)] or [()]
        indices = {await self._settle_some(portion) for portion in portions}
        return indices.pop() if len(indices) == 1 else None

    async def _settle_some(self, told: Sequence[tuple[_Key, float, float]]) -> bytes:
        # Of before the call: what is told again from here must never be more than what Redis has.
        began = self._clock()
        async with asyncio.timeout(_PATIENCE):
            index, ahead = await self._shared.settle(
                {f"{kind}:{who}": (known, taken) for (kind, who), known, taken in told}
            )
        for (key, _, _), seconds in zip(told, ahead, strict=True):
            # Each side knows only of requests that there were: Redis may have been emptied, this process is young.
            full_at = max(began + seconds + self._untold.get(key, 0.0), self._full_at.get(key, 0.0))
            self._full_at[key] = full_at
            self._knows_until = max(self._knows_until, full_at)
        return index


def class_of(method: str, path: str) -> Class | None:
    """Which limit a request counts for; None: none. Paths that nothing answers to count as well."""
    if path in _NEVER and method in _READING:
        return None
    if method not in _READING:
        if path == "/api/v1/orders":
            return "orders"
        return "auth" if path.startswith("/api/v1/auth/") or path == "/admin/login" else "write"
    return "status" if _POLLED.fullmatch(path) else "read"


def session_of(scope: Scope) -> str:
    """The token of the console's cookie; empty without one, and everywhere else."""
    if scope["path"] != _CONSOLE[0] and not scope["path"].startswith(_CONSOLE[1]):
        return ""
    for name, value in scope["headers"]:
        if name == b"cookie" and _COOKIE in value:
            for one in value.split(b";"):
                if one.strip().startswith(_COOKIE):
                    token: str = one.strip()[len(_COOKIE) :].decode("latin-1")
                    return token
    return ""


@lru_cache(maxsize=10_000)
def network_of(address: str) -> str:
    """Whom an address stands for: all that one customer of a provider has."""
    parsed = _parsed(address)
    if isinstance(parsed, IPv6Address):
        return str(IPv6Network((int(parsed), _SUBNET_BITS), strict=False))
    return "unknown" if parsed is None else str(parsed)


def client_behind(peer: str, forwarded: Sequence[bytes], trusted: Sequence[Network]) -> str:
    """The address of who asks: the last one in X-Forwarded-For that is none of our own proxies.

    Args:
        peer: who has connected.
        forwarded: the values of X-Forwarded-For, in their order.
        trusted: networks of proxies whose word is taken.
    """
    asks = peer
    hops = [hop.strip() for hop in b",".join(forwarded).decode("latin-1").split(",")]
    while hops and (known := _parsed(asks)) is not None and is_within(known, trusted):
        before = hops.pop()
        parsed = _parsed(before)
        if parsed is None:
            break
        asks = str(parsed)
    return asks


def _parsed(address: str) -> Address | None:
    """An address as proxies write it: bare or with a port, an IPv6 one with a port in brackets."""
    if address.startswith("["):
        address = address[1:].partition("]")[0]
    elif address.count(":") == 1:
        address = address.partition(":")[0]
    try:
        return unmapped(ip_address(address.partition("%")[0]))
    except ValueError:
        return None


def seen_through(scope: Scope, trusted: Sequence[Network]) -> Scope:
    """The same request with its true client and scheme, where a proxy of ours has passed it on."""
    client = scope["client"]
    if client is None or (peer := _parsed(client[0])) is None or not is_within(peer, trusted):
        return scope
    seen = {**scope}
    forwarded = [value for name, value in scope["headers"] if name == _FORWARDED]
    if forwarded:
        seen["client"] = (client_behind(client[0], forwarded, trusted), client[1])
    schemes = [value.rpartition(b",")[2].strip().lower() for name, value in scope["headers"] if name == _SCHEME]
    if schemes and schemes[-1] in {b"http", b"https"}:
        seen["scheme"] = schemes[-1].decode()
    return seen
