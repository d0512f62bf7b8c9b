"""Requests, answers and the rules between them. Pure: the store loads what a batch touches and saves what changed."""

from collections.abc import Callable
from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from comanda.gateway.outcomes import Plan

# Printable ASCII: a name that any store, log or shell takes as it is.
Name = Annotated[str, Meta(pattern=r"\A[\x20-\x7e]{1,200}\Z")]
Amount = Annotated[int, Meta(gt=0, le=2**53 - 1)]  # minor units; no larger than JSON carries exactly
Currency = Annotated[str, Meta(pattern=r"\A[A-Z]{3}\Z")]


# What is asked.


class ChargeRequest(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    key: Name
    order_id: Name
    amount: Amount
    currency: Currency
    payment_method: Annotated[str, Meta(max_length=200)] | None = None


class VoidRequest(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    key: Name


class RefundRequest(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    key: Name
    charge_key: Name
    amount: Amount


class Charging(Struct, frozen=True):
    """A charge whose wait is over."""

    request: ChargeRequest
    plan: Plan


class Replaying(Struct, frozen=True):
    """A charge that has not waited yet: answered only if its key is settled."""

    request: ChargeRequest


class Finding(Struct, frozen=True):
    key: str


class FindingRefund(Struct, frozen=True):
    key: str


Command = Charging | Replaying | Finding | FindingRefund | VoidRequest | RefundRequest


# What is answered.


class Captured(Struct, frozen=True, rename="camel"):
    id: str
    key: str
    status: Literal["captured"]
    amount: int
    currency: str
    captured_at: str
    captured_amount: int
    refunded_amount: int


class CapturedUnheard(Struct, frozen=True):
    """Captured, and the caller must not be told."""


class Declined(Struct, frozen=True):
    key: str
    code: str
    status: Literal["declined"] = "declined"


class Busy(Struct, frozen=True):
    code: str = "PROCESSOR_BUSY"
    status: Literal["retry"] = "retry"


class KeyVoided(Struct, frozen=True):
    code: Literal["KEY_VOIDED"] = "KEY_VOIDED"
    status: Literal["voided"] = "voided"


class Voided(Struct, frozen=True, rename="camel"):
    key: str
    captured_amount: int
    refunded_amount: int
    status: Literal["voided"] = "voided"


class Refunded(Struct, frozen=True, rename="camel"):
    id: str
    key: str
    charge_key: str
    amount: int
    status: Literal["refunded"] = "refunded"


class Found(Struct, frozen=True, rename="camel"):
    key: str
    status: str
    amount: int
    captured_amount: int
    refunded_amount: int
    code: str | UnsetType = UNSET
    id: str | UnsetType = UNSET


class Refusal(Struct, frozen=True):
    code: str
    message: str


Answer = Captured | CapturedUnheard | Declined | Busy | KeyVoided | Voided | Refunded | Found | Refusal


# What is stored.


class Charge(Struct, rename="camel"):
    """All that is known under one key. `open`: nothing but its attempts."""

    key: str
    status: Literal["open", "captured", "declined", "voided"] = "open"
    id: str | None = None
    order_id: str | None = None
    amount: int = 0
    currency: str | None = None
    code: str | None = None
    captured_amount: int = 0
    refunded_amount: int = 0
    captured_at: str | None = None
    attempts: int = 0


class Refund(Struct, frozen=True, rename="camel"):
    key: str
    id: str
    charge_key: str
    amount: int


class Line(Struct, frozen=True, rename="camel"):
    """One line of the ledger, before it has its number."""

    type: Literal["capture", "refund"]
    order_id: str
    amount: int
    currency: str
    key: str
    at: str


class Book:
    """The charges and refunds of a batch. Decides as if its commands had come one by one, in their order.

    Args:
        charges, refunds: what is stored of the keys that the batch names.
        at: the time of the batch.
        new_id: makes what follows `ch_` and `re_`.
    """

    def __init__(
        self, charges: dict[str, Charge], refunds: dict[str, Refund], *, at: str, new_id: Callable[[], str]
    ) -> None:
        self._charges = charges
        self._refunds = refunds
        self._at = at
        self._new_id = new_id
        self.changed: dict[str, Charge] = {}
        self.refunded: list[Refund] = []
        self.lines: list[Line] = []

    def answer(self, command: Command) -> Answer | None:
        """Decide one command. None only for a `Replaying` whose key is not settled."""
        match command:
            case Charging(request, plan):
                return self._settled(request) or self._charge(request, plan)
            case Replaying(request):
                return self._settled(request)
            case Finding(key):
                return self._find(key)
            case FindingRefund(key):
                return self._find_refund(key)
            case VoidRequest(key):
                return self._void(key)
            case RefundRequest():
                return self._refund(command)

    def _settled(self, request: ChargeRequest) -> Answer | None:
        charge = self._charges.get(request.key)
        if charge is None or charge.status == "open":
            return None
        if charge.status == "voided":
            return KeyVoided()
        if (charge.order_id, charge.amount, charge.currency) != (request.order_id, request.amount, request.currency):
            return Refusal("KEY_REUSED", "this key belongs to a charge of another order, amount or currency")
        return _told(charge)

    def _charge(self, request: ChargeRequest, plan: Plan) -> Answer:
        known = self._charges.get(request.key)
        attempt = 1 + (known.attempts if known else 0)
        verdict = plan.verdict(attempt)
        if verdict == "busy":
            if plan.counts_attempts:
                self._change(request.key).attempts = attempt
            return Busy()
        charge = self._change(request.key)
        charge.order_id, charge.amount, charge.currency = request.order_id, request.amount, request.currency
        if verdict == "decline":
            charge.status, charge.code = "declined", plan.decline_code
            return _told(charge)
        charge.status, charge.id = "captured", f"ch_{self._new_id()}"
        charge.captured_amount, charge.captured_at = request.amount, self._at
        self.lines.append(
            Line("capture", request.order_id, request.amount, request.currency, request.key, self._at),
        )
        return CapturedUnheard() if plan.loses_answer else _told(charge)

    def _void(self, key: str) -> Voided:
        charge = self._charges.get(key)
        if charge is None or charge.status != "voided":
            charge = self._change(key)
            charge.status = "voided"
            self._give_back(charge, charge.captured_amount - charge.refunded_amount, key=f"{key}:void")
        return Voided(key, charge.captured_amount, charge.refunded_amount)

    def _refund(self, request: RefundRequest) -> Refunded | Refusal:
        if known := self._refunds.get(request.key):
            if (known.charge_key, known.amount) != (request.charge_key, request.amount):
                return Refusal("KEY_REUSED", "this key belongs to a refund of another charge or amount")
            return _given_back(known)
        charge = self._charges.get(request.charge_key)
        if charge is None or charge.status == "open":
            return Refusal("UNKNOWN_CHARGE", "no charge has this key")
        left = charge.captured_amount - charge.refunded_amount
        if request.amount > left:
            return Refusal("REFUND_EXCEEDS_CAPTURE", f"{left} of what was captured is left to refund")
        self._give_back(self._change(charge.key), request.amount, key=request.key)
        refund = Refund(request.key, f"re_{self._new_id()}", charge.key, request.amount)
        self._refunds[refund.key] = refund
        self.refunded.append(refund)
        return _given_back(refund)

    def _find_refund(self, key: str) -> Refunded | Refusal:
        refund = self._refunds.get(key)
        return Refusal("UNKNOWN_KEY", "no refund has this key") if refund is None else _given_back(refund)

    def _find(self, key: str) -> Found | Refusal:
        charge = self._charges.get(key)
        if charge is None or charge.status == "open":
            return Refusal("UNKNOWN_KEY", "no charge has this key")
        return Found(
            key,
            charge.status,
            charge.amount,
            charge.captured_amount,
            charge.refunded_amount,
            code=charge.code or UNSET,
            id=charge.id or UNSET,
        )

    def _change(self, key: str) -> Charge:
        charge = self._charges.get(key)
        if charge is None:
            charge = self._charges[key] = Charge(key)
        self.changed[key] = charge
        return charge

    def _give_back(self, charge: Charge, amount: int, *, key: str) -> None:
        if amount == 0:
            return
        assert charge.order_id is not None
        assert charge.currency is not None
        charge.refunded_amount += amount
        self.lines.append(Line("refund", charge.order_id, amount, charge.currency, key, self._at))


def _given_back(refund: Refund) -> Refunded:
    return Refunded(refund.id, refund.key, refund.charge_key, refund.amount)


def _told(charge: Charge) -> Captured | Declined:
    if charge.status == "declined":
        assert charge.code is not None
        return Declined(charge.key, charge.code)
    assert charge.id is not None
    assert charge.currency is not None
    assert charge.captured_at is not None
    return Captured(
        charge.id,
        charge.key,
        "captured",
        charge.amount,
        charge.currency,
        charge.captured_at,
        charge.captured_amount,
        charge.refunded_amount,
    )
