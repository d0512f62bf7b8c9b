"""Which limit a request counts for, whose it is, and what several processes let in together."""

from collections.abc import Mapping
from datetime import timedelta
from ipaddress import ip_network
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comanda.accounts.tokens import Bearer
from comanda.api.rate_limits import RateLimits, class_of, client_behind, network_of, seen_through
from comanda.errors import RedisFault
from comanda.resilience.limits import Quota

PROXIES = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))
QUOTA = Quota(10, 10)


class Index:
    """What the script in Redis does, on a clock that stands where it is put. Lost: as Redis is when it is away."""

    def __init__(self) -> None:
        self.now = 0.0
        self.is_lost = False
        self._name = 0
        self._full_at: dict[str, float] = {}

    def empty(self) -> None:
        self._name += 1
        self._full_at.clear()

    async def settle(self, told: Mapping[str, tuple[float, float]]) -> tuple[bytes, list[float]]:
        if self.is_lost:
            raise RedisFault("away")
        for name, (known, taken) in told.items():
            self._full_at[name] = max(self._full_at.get(name, 0.0), self.now + known) + taken
        return b"%d" % self._name, [self._full_at[name] - self.now for name in told]


def limits(index: Index) -> RateLimits:
    return RateLimits({"read": QUOTA}, Bearer("k" * 32), index, clock=lambda: index.now)


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("POST", "/api/v1/orders", "orders"),
        ("POST", "/api/v1/orders/", "write"),
        ("GET", "/api/v1/orders", "read"),
        ("GET", "/api/v1/orders/1/status", "status"),
        ("GET", "/api/v1/orders/1/events", "status"),
        ("GET", "/api/v1/orders/1/status/", "read"),
        ("POST", "/api/v1/auth/login", "auth"),
        ("POST", "/admin/login", "auth"),
        ("GET", "/api/v1/auth/profile", "read"),
        ("BREW", "/API/V1/ORDERS", "write"),
        ("GET", "/nothing", "read"),
        ("GET", "/api/v1/health/ready", None),
        ("GET", "/api/v1/health/../orders", "read"),
        ("GET", "/metrics", None),
        ("GET", "/metricsx", "read"),
        ("POST", "/metrics", "write"),
        ("PUT", "/api/v1/health/live", "write"),
    ],
)
def test_every_path_has_a_class_and_only_probes_have_none(method: str, path: str, expected: str | None) -> None:
    assert class_of(method, path) == expected


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", "unknown"),
        ("somewhere", "unknown"),
    ],
)
def test_all_addresses_of_one_customer_are_one_client(address: str, expected: str) -> None:
    assert network_of(address) == expected


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("203.0.113.7", [b"198.51.100.1"], "203.0.113.7"),
        ("10.0.0.1", [b"198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", [b"1.1.1.1, 198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", [b"1.1.1.1", b"198.51.100.1, 10.0.0.2"], "198.51.100.1"),
        ("10.0.0.1", [b"1.1.1.1, 198.51.100.1, fd00::2"], "198.51.100.1"),
        ("10.0.0.1", [b"10.9.9.9"], "10.9.9.9"),
        ("10.0.0.1", [b"198.51.100.1:4711"], "198.51.100.1"),
        ("10.0.0.1", [b"[2001:db8::1]:4711, [fd00::2]:80"], "2001:db8::1"),
        ("10.0.0.1", [b"nonsense"], "10.0.0.1"),
        ("10.0.0.1", [b"1.1.1.1, nonsense, 10.0.0.2"], "10.0.0.2"),
        ("10.0.0.1", [b""], "10.0.0.1"),
        ("::ffff:10.0.0.1", [b"198.51.100.1"], "198.51.100.1"),
    ],
)
def test_only_the_word_of_our_own_proxies_is_taken(peer: str, forwarded: list[bytes], expected: str) -> None:
    assert client_behind(peer, forwarded, PROXIES) == expected


@given(
    st.lists(
        st.tuples(st.sampled_from(["first", "second", "settle", "lose", "find"]), st.floats(0, 3)),
        min_size=1, max_size=150,
    )
)  # fmt: skip
async def test_what_two_processes_let_in_beyond_the_limit_is_paid_back(steps: list[tuple[str, float]]) -> None:
    index = Index()
    processes = {"first": limits(index), "second": limits(index)}
    let_in = 0
    for step, pause in steps:
        index.now += pause
        match step:
            case "first" | "second":
                let_in += processes[step].take("read", "somebody").is_in
            case "settle":
                for process in processes.values():
                    await process.settle()
            case _:
                index.is_lost = step == "lose"
        assert let_in <= 2 * (QUOTA.requests + index.now / QUOTA.interval) + 1e-3, "each for itself, at the worst"
    index.is_lost = False
    for process in processes.values():
        await process.settle()
        await process.settle()


async def test_settled_each_time_two_processes_are_as_strict_as_one() -> None:
    index = Index()
    processes = [limits(index), limits(index)]
    let_in = 0
    for n in range(400):
        index.now += 0.05
        let_in += processes[n % 2].take("read", "somebody").is_in
        for process in processes:
            await process.settle()
    # Twenty seconds: what there was, and one each second; one more in either of them before it had heard of the other.
    assert let_in <= QUOTA.requests + 20 + 2
    assert let_in >= QUOTA.requests + 18


async def test_who_was_let_in_twice_has_to_wait_for_it() -> None:
    index = Index()
    first, second = limits(index), limits(index)
    assert sum(one.take("read", "somebody").is_in for one in (first, second) for _ in range(15)) == 2 * QUOTA.requests
    for process in (first, second, first):
        await process.settle()
    refused = second.take("read", "somebody")
    assert not refused.is_in
    assert dict(refused.headers)[b"retry-after"] == b"11"
    assert second.take("read", "another").is_in


async def test_without_redis_the_limit_holds_in_each_process() -> None:
    index = Index()
    index.is_lost = True
    alone = limits(index)
    assert sum(alone.take("read", "somebody").is_in for _ in range(30)) == QUOTA.requests
    await alone.settle()
    assert not alone.take("read", "somebody").is_in
    index.now += 1.0
    assert alone.take("read", "somebody").is_in


async def test_an_emptied_redis_forgives_nothing() -> None:
    index = Index()
    process = limits(index)
    for _ in range(QUOTA.requests):
        process.take("read", "somebody")
    index.empty()
    await process.settle()
    assert not process.take("read", "somebody").is_in


@pytest.mark.parametrize("loss", ["emptied", "away"])
async def test_redis_is_told_again_what_a_process_knows(loss: str) -> None:
    index = Index()
    first, second = limits(index), limits(index)
    if loss == "away":
        index.is_lost = True
    for _ in range(QUOTA.requests):
        first.take("read", "somebody")
    await first.settle()
    index.is_lost = False
    if loss == "emptied":
        index.empty()
    await first.settle()  # it has nothing new to tell
    assert second.take("read", "somebody").is_in, "that much nobody can know in time"
    await second.settle()
    assert not second.take("read", "somebody").is_in
    index.now += QUOTA.seconds + QUOTA.interval + 0.1
    await first.settle()
    assert sum(first.take("read", "somebody").is_in for _ in range(30)) == QUOTA.requests, "nothing is owed twice"


def test_signing_in_is_counted_by_address_whatever_token_is_shown() -> None:
    bearer = Bearer("k" * 32)
    process = RateLimits({"auth": Quota(2, 60)}, bearer, Index(), clock=lambda: 0.0)
    scope = {"method": "POST", "path": "/api/v1/auth/login", "client": ("192.0.2.1", 1)}
    rulings = []
    for _ in range(3):
        token = bearer.issue(uuid4(), "admin", timedelta(minutes=15))
        rulings.append(process.rule(scope, f"Bearer {token}".encode()))
    assert [one is not None and one.is_in for one in rulings] == [True, True, False]


def test_staff_have_ten_times_as_much_and_headers_say_what_is_left() -> None:
    process = limits(Index())
    assert list(process.take("read", "a").headers) == [
        (b"ratelimit-policy", b'"read";q=10;w=10'), (b"ratelimit", b'"read";r=9;t=1'),
    ]  # fmt: skip
    assert list(process.take("read", "b", is_staff=True).headers) == [
        (b"ratelimit-policy", b'"read";q=100;w=10'), (b"ratelimit", b'"read";r=99;t=1'),
    ]  # fmt: skip


def _asks(path: str, cookie: bytes = b"", method: str = "GET") -> dict[str, Any]:
    headers = [(b"cookie", cookie)] if cookie else []
    return {"method": method, "path": path, "client": ("203.0.113.7", 1), "headers": headers}


def _counts_as(process: RateLimits, path: str, cookie: bytes = b"") -> str:
    ruling = process.rule(_asks(path, cookie), None)
    assert ruling is not None
    return dict(ruling.headers)[b"ratelimit-policy"].decode()


def test_a_session_of_the_console_counts_as_its_account_once_it_is_known() -> None:
    process, cookie = limits(Index()), b"comanda_language=es; comanda_console=abc"
    assert _counts_as(process, "/admin", cookie) == '"read";q=10;w=10', "anybody can make up a cookie"
    process.meet("abc", uuid4())
    for path in ("/admin", "/admin/orders"):
        assert _counts_as(process, path, cookie) == '"read";q=100;w=10'
    for path in ("/api/v1/products", "/administration"):
        assert _counts_as(process, path, cookie) == '"read";q=10;w=10', "the console's alone"
    for other in (b"comanda_console=abcd", b"x_comanda_console=abc", b"comanda_console="):
        assert _counts_as(process, "/admin", other) == '"read";q=10;w=10'
    process.meet("abc", None)
    assert _counts_as(process, "/admin", cookie) == '"read";q=10;w=10', "it is over"


def test_signing_in_counts_by_address_whatever_session_there_is() -> None:
    process = RateLimits({"auth": QUOTA}, Bearer("k" * 32), Index(), clock=lambda: 0.0)
    process.meet("abc", uuid4())
    ruling = process.rule(_asks("/admin/login", b"comanda_console=abc", "POST"), None)
    assert ruling is not None
    assert dict(ruling.headers)[b"ratelimit-policy"] == b'"auth";q=10;w=10'


@pytest.mark.parametrize(
    ("peer", "said", "expected"),
    [
        ("10.0.0.1", b"https", "https"),
        ("10.0.0.1", b"http, HTTPS ", "https"),
        ("10.0.0.1", b"https, http", "http"),
        ("10.0.0.1", b"gopher", "http"),
        ("203.0.113.7", b"https", "http"),
    ],
)
def test_only_the_word_of_our_own_proxies_is_taken_for_the_scheme(peer: str, said: bytes, expected: str) -> None:
    scope = {"client": (peer, 1), "scheme": "http", "headers": [(b"x-forwarded-proto", said)]}
    assert seen_through(scope, PROXIES)["scheme"] == expected
