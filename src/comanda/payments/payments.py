"""Charging an order, and giving the money back: two remote actions around one row for each order."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import msgspec

from comanda.clock import new_id
from comanda.db import Record, Tx, twin
from comanda.errors import GatewayBusy, GatewayFault, GatewaySilent
from comanda.messaging import outbox
from comanda.messaging.outbox import Event
from comanda.payments.breaker import SharedBreaker
from comanda.payments.gateway import Captured, ChargeRequest, Declined, Gateway, Voided
from comanda.saga import Done, Failed, Job, Later, Outcome, Refused

_sql = twin(__file__)
ASKED = _sql["asked"]
INTEND = _sql["intend"]
SETTLE = _sql["settle"]
INTENTS = _sql["intents"]

FRAUD_ABOVE = 1_000_000
"""Minor units: more than 10,000.00 is refused before any call; that amount itself passes."""

UNAVAILABLE = "PAYMENT_UNAVAILABLE"
FRAUD = Refused("FRAUD_SUSPECTED")


class _Result(msgspec.Struct, frozen=True):
    order_id: UUID
    state: str
    gateway_id: str | None = None
    decline_code: str | None = None
    is_captured: bool = False
    is_refunded: bool = False


async def _settle(tx: Tx, results: Sequence[_Result]) -> dict[UUID, Record]:
    if not results:
        return {}
    rows = await SETTLE.rows(
        tx,
        [one.order_id for one in results],
        [one.state for one in results],
        [one.gateway_id for one in results],
        [one.decline_code for one in results],
        [one.is_captured for one in results],
        [one.is_refunded for one in results],
    )
    return {row["order_id"]: row for row in rows}


async def _intend(tx: Tx, jobs: Sequence[Job], asked: dict[UUID, Record], state: str) -> None:
    if not jobs:
        return
    rows = [asked[job.subject] for job in jobs]
    await INTEND.run(
        tx,
        [new_id() for _ in jobs],
        [job.subject for job in jobs],
        [job.key for job in jobs],
        [state] * len(jobs),
        [row["total_amount"] for row in rows],
        [row["currency"] for row in rows],
        [row["payment_method"] for row in rows],
    )


def _event(kind: str, row: Record, **more: Any) -> Event:
    payload = {"orderId": row["order_id"], "amount": row["amount"], "currency": row["currency"], **more}
    return Event(kind, "payment", row["id"], payload, order_id=row["order_id"])


class Charge:
    """Take the money: once, under one key, behind the breaker that all workers share."""

    def __init__(self, gateway: Gateway, breaker: SharedBreaker) -> None:
        self._gateway = gateway
        self._breaker = breaker

    async def prepare(self, tx: Tx, jobs: Sequence[Job]) -> Sequence[ChargeRequest | Outcome]:
        asked = {row["id"]: row for row in await ASKED.rows(tx, [job.subject for job in jobs])}
        suspects = [job for job in jobs if asked[job.subject]["total_amount"] > FRAUD_ABOVE]
        free = [job for job in jobs if asked[job.subject]["total_amount"] == 0]
        decided: dict[UUID, Outcome] = {job.subject: FRAUD for job in suspects}
        decided |= {job.subject: Done() for job in free}
        open_jobs = [job for job in jobs if job.subject not in decided]
        decided |= await self._held_back(tx, open_jobs)
        called = [job for job in open_jobs if job.subject not in decided]
        await _intend(tx, [*suspects, *free, *called], asked, "PROCESSING")
        ended = [_Result(job.subject, "FAILED", decline_code=FRAUD.reason) for job in suspects]
        ended += [_Result(job.subject, "SUCCEEDED", is_captured=True) for job in free]
        settled = await _settle(tx, ended)
        events = [_event("PaymentFailed", settled[job.subject], code=FRAUD.reason) for job in suspects]
        events += [
            Event(
                "PaymentInitiated",
                "order",
                job.subject,
                {"amount": asked[job.subject]["total_amount"], "currency": asked[job.subject]["currency"]},
                order_id=job.subject,
            )
            for job in called
            if job.attempt == 1
        ]
        await outbox.append(tx, events)
        return [decided.get(job.subject) or self._request(job, asked[job.subject]) for job in jobs]

    async def call(self, request: ChargeRequest, key: str) -> Captured | Declined:
        try:
            answer = await self._gateway.find(key) if request.is_repeat else None
            answer = answer or await self._gateway.charge(request, key)
        except GatewayFault as fault:
            # A request that is refused is answered: nobody opens the breaker for all by asking for nonsense.
            await self._breaker.count(is_answer=not isinstance(fault, GatewayBusy | GatewaySilent))
            raise
        await self._breaker.count(is_answer=True)
        return answer

    async def record(self, tx: Tx, jobs: Sequence[Job], answers: Sequence[Any]) -> Sequence[Outcome]:
        results = []
        for job, answer in zip(jobs, answers, strict=True):
            match answer:
                case Captured(gateway_id):
                    results.append(_Result(job.subject, "SUCCEEDED", gateway_id=gateway_id, is_captured=True))
                case Declined(code):
                    results.append(_Result(job.subject, "FAILED", decline_code=code))
                case _:
                    results.append(_Result(job.subject, "PENDING"))
        settled = await _settle(tx, results)
        events = []
        outcomes: list[Outcome] = []
        for job, answer in zip(jobs, answers, strict=True):
            row = settled[job.subject]
            match answer:
                case Captured(gateway_id):
                    events.append(_event("PaymentProcessed", row, gatewayId=gateway_id))
                    outcomes.append(Done())
                case Declined(code):
                    events.append(_event("PaymentFailed", row, code=code))
                    outcomes.append(Refused(code))
                case fault:
                    events.append(_event("PaymentStatusUpdated", row, attempt=job.attempt, error=str(fault)))
                    outcomes.append(Failed(str(fault) or repr(fault), UNAVAILABLE))
        await outbox.append(tx, events)
        return outcomes

    @staticmethod
    def _request(job: Job, row: Record) -> ChargeRequest:
        return ChargeRequest(
            job.subject, row["total_amount"], row["currency"], row["payment_method"], is_repeat=job.attempt > 1
        )

    async def _held_back(self, tx: Tx, jobs: Sequence[Job]) -> dict[UUID, Outcome]:
        """Who has to wait because the breaker is open: all but the probe, for which the least tried is taken."""
        if not jobs:
            return {}
        admitted, waits = await self._breaker.admit(tx, len(jobs))
        in_turn = sorted(jobs, key=lambda job: (job.attempt, job.since, job.subject))
        return {job.subject: Later(UNAVAILABLE, wait) for job, wait in zip(in_turn[admitted:], waits, strict=True)}


class Refund:
    """Undo a charge: void its key, so that a request still on its way can't capture later, then give back."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def prepare(self, tx: Tx, jobs: Sequence[Job]) -> Sequence[str | Outcome]:
        intents = {row["order_id"]: row["key"] for row in await INTENTS.rows(tx, [job.subject for job in jobs])}
        return [intents.get(job.subject) or Done() for job in jobs]

    async def call(self, request: str, key: str) -> Voided:
        voided = await self._gateway.void(request)
        if voided.captured > voided.refunded:
            await self._gateway.refund(request, voided.captured - voided.refunded, key)
        return voided

    async def record(self, tx: Tx, jobs: Sequence[Job], answers: Sequence[Any]) -> Sequence[Outcome]:
        results = [
            _Result(job.subject, "REFUNDED", is_captured=True, is_refunded=True)
            if answer.captured
            else _Result(job.subject, "FAILED", decline_code="VOIDED")
            for job, answer in zip(jobs, answers, strict=True)
            if isinstance(answer, Voided)
        ]
        settled = await _settle(tx, results)
        await outbox.append(
            tx,
            [
                _event("PaymentRefunded" if row["state"] == "REFUNDED" else "PaymentCancelled", row)
                for row in settled.values()
            ],
        )
        return [
            Done() if isinstance(answer, Voided) else Failed(str(answer) or repr(answer), "REFUND_FAILED")
            for answer in answers
        ]
