"""The gateways' protocol, and the two that are there: the mock over HTTP, and one that answers at once."""

import time
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self
from uuid import UUID

import aiohttp
import msgspec

from comanda import telemetry, tracing
from comanda.errors import GatewayBusy, GatewayFault, GatewaySilent
from comanda.failpoints import Boundary

CHARGE = Boundary("gateway.charge")
FIND = Boundary("gateway.find")
VOID = Boundary("gateway.void")
REFUND = Boundary("gateway.refund")
FIND_REFUND = Boundary("gateway.find_refund")

_DECLINED, _VOIDED, _UNKNOWN, _INTERNAL = 402, 409, 404, 500


class ChargeRequest(msgspec.Struct, frozen=True):
    """What is to be charged: `amount` in minor units. `is_repeat`: an attempt before this one may have arrived."""

    order_id: UUID
    amount: int
    currency: str
    method: str | None
    is_repeat: bool


class Captured(msgspec.Struct, frozen=True):
    gateway_id: str


@dataclass(frozen=True, slots=True)
class Declined:
    """An answer, and final."""

    code: str


@dataclass(frozen=True, slots=True)
class Voided:
    """What the key had captured, and what of it has been given back, in minor units."""

    captured: int
    refunded: int


class Gateway(Protocol):
    """Every call carries a key under which a repeat is harmless.

    Raises, each of them: GatewayBusy when it answered "not now", GatewaySilent when no answer came.
    """

    async def charge(self, request: ChargeRequest, key: str) -> Captured | Declined: ...

    async def find(self, key: str) -> Captured | Declined | None:
        """What became of a charge; None: the gateway has never seen the key."""

    async def void(self, key: str) -> Voided:
        """Refuse the key for ever; what it captured is given back where the gateway does that by itself."""

    async def refund(self, charge_key: str, amount: int, key: str) -> None:
        """Give back so much of what a charge captured."""

    async def find_refund(self, key: str) -> int | None:
        """What was given back under a key, in minor units; None: the gateway has never seen it."""


class InstantGateway:  # its arguments are the protocol's
    """In process, answers at once, remembers nothing: for benchmarks of everything else."""

    async def charge(self, request: ChargeRequest, key: str) -> Captured | Declined:  # noqa: ARG002
        return Captured(f"instant-{key}")

    async def find(self, key: str) -> Captured | Declined | None:
        return Captured(f"instant-{key}")

    async def void(self, key: str) -> Voided:  # noqa: ARG002
        return Voided(1, 1)  # whatever it was: it had captured it, and has given it back

    async def refund(self, charge_key: str, amount: int, key: str) -> None:  # noqa: ARG002
        return

    async def find_refund(self, key: str) -> int | None:  # noqa: ARG002
        return None


class HttpGateway:
    """A gateway that speaks the mock's HTTP. Chosen client: see docs/decisions (aiohttp costs least for each call)."""

    def __init__(self, url: str, *, timeout: float, connections: int = 100) -> None:
        self._url = url.rstrip("/")
        self._timeout = aiohttp.ClientTimeout(total=timeout, sock_connect=2)
        self._connections = connections
        self._client: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(limit=self._connections, keepalive_timeout=30)
        self._client = aiohttp.ClientSession(
            connector=connector, timeout=self._timeout, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._client is not None:
            await self._client.close()

    async def charge(self, request: ChargeRequest, key: str) -> Captured | Declined:
        body = {
            "key": key,
            "orderId": request.order_id,
            "amount": request.amount,
            "currency": request.currency,
            "paymentMethod": request.method,
        }
        with CHARGE:
            status, answer = await self._send("charge", "POST", "/charges", body)
        if status == _DECLINED:
            return Declined(answer["code"])
        if status == _VOIDED:
            return Declined("PAYMENT_VOIDED")
        self._expect(status, answer)
        return Captured(answer["id"])

    async def find(self, key: str) -> Captured | Declined | None:
        with FIND:
            status, answer = await self._send("find", "GET", f"/charges?key={key}", None)
        if status == _UNKNOWN:
            return None
        self._expect(status, answer)
        match answer["status"]:
            case "captured":
                return Captured(answer["id"])
            case "declined":
                return Declined(answer["code"])
            case _:
                return Declined("PAYMENT_VOIDED")

    async def void(self, key: str) -> Voided:
        with VOID:
            status, answer = await self._send("void", "POST", "/void", {"key": key})
        self._expect(status, answer)
        return Voided(answer["capturedAmount"], answer["refundedAmount"])

    async def refund(self, charge_key: str, amount: int, key: str) -> None:
        with REFUND:
            body = {"key": key, "chargeKey": charge_key, "amount": amount}
            status, answer = await self._send("refund", "POST", "/refunds", body)
        self._expect(status, answer)

    async def find_refund(self, key: str) -> int | None:
        with FIND_REFUND:
            status, answer = await self._send("find_refund", "GET", f"/refunds?key={key}", None)
        if status == _UNKNOWN:
            return None
        self._expect(status, answer)
        return int(answer["amount"])

    async def ledger(self, after: int, limit: int) -> list[dict[str, Any]]:
        """A page of the gateway's own ledger, for reconciliation."""
        status, answer = await self._send("ledger", "GET", f"/ledger?after={after}&limit={limit}", None)
        self._expect(status, answer)
        lines: list[dict[str, Any]] = answer
        return lines

    async def _send(self, operation: str, method: str, path: str, body: dict[str, Any] | None) -> tuple[int, Any]:
        if self._client is None:
            raise RuntimeError("enter the gateway before it is used: `async with HttpGateway(...)`")
        headers = {"Content-Type": "application/json", "X-Correlation-Id": telemetry.correlation_id() or ""}
        data = msgspec.json.encode(body) if body is not None else None
        began, said = time.perf_counter(), "silent"
        where = path.partition("?")[0]
        about = {"http__request__method": method, "url__full": self._url + where, "comanda__operation": operation}
        try:
            with tracing.outside(f"{method} {where}", **about) as call:
                headers |= call.headers
                async with self._client.request(method, self._url + path, data=data, headers=headers) as response:
                    raw = await response.read()
                call.answered(response.status)
            said = f"{response.status // 100}xx"
        except (aiohttp.ClientConnectorError, ConnectionRefusedError) as fault:
            said = "unreachable"
            raise GatewayBusy(f"the gateway can't be reached: {fault}") from fault
        except (aiohttp.ClientError, TimeoutError, OSError) as fault:
            raise GatewaySilent(f"the gateway did not answer: {str(fault) or type(fault).__name__}") from fault
        finally:
            telemetry.GATEWAY.labels(operation, said).observe(time.perf_counter() - began)
        try:
            return response.status, msgspec.json.decode(raw)
        except msgspec.DecodeError as fault:
            raise GatewaySilent(f"the gateway's answer is no JSON (HTTP {response.status})") from fault

    @staticmethod
    def _expect(status: int, answer: Any) -> None:
        if status == 200:
            return
        if status >= _INTERNAL:
            raise GatewayBusy(f"the gateway answers {status}: {answer}")
        raise GatewayFault(f"the gateway refuses the request: {status} {answer}")
