"""Calls the operator: each dead letter is posted to a webhook, by a saga of its own, in JSON.

    {"type": "saga.stuck" | "message.unreadable", "id": "…", "at": "…", "text": "one sentence, for chat rooms",
     "queue": "…", "step": "…", "direction": "…", "error": "…", "sagaId": "…", "kind": "order", "subject": "…"}

The header `webhook-id` is the same for every attempt.
"""

from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self
from uuid import UUID

import aiohttp
import msgspec

from comanda import telemetry
from comanda.clock import rfc3339
from comanda.db import Record, Tx, twin
from comanda.errors import DependencyFault
from comanda.failpoints import Boundary
from comanda.messaging.dead_letters import DeadLetter
from comanda.networks import without_address
from comanda.resilience.backoff import Policy
from comanda.saga import Done, Failed, Job, Outcome, Passage, Saga, Start, nothing, remote, start
from comanda.saga.definition import Due

_sql = twin(__file__)
LETTERS = _sql["letters"]

POST = Boundary("alert.post")
_log = telemetry.log("alerts")
_KIND = "alert"
_FIRST = 0  # priority: whoever is paged comes before everything else


class Webhook:
    """The operator's address. Follows no redirects."""

    def __init__(self, url: str, *, timeout: float) -> None:
        self._url = url
        self._timeout = aiohttp.ClientTimeout(total=timeout, sock_connect=2)
        self._client: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._client = aiohttp.ClientSession(timeout=self._timeout, cookie_jar=aiohttp.DummyCookieJar())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._client is not None:
            await self._client.close()

    async def post(self, body: bytes, key: str) -> None:
        """Post it.

        Raises:
            DependencyFault: nobody answered, or not with 2xx.
        """
        if self._client is None:
            raise RuntimeError("enter the webhook before it is used: `async with Webhook(...)`")
        headers = {"Content-Type": "application/json", "webhook-id": key}
        try:
            with POST:
                request = self._client.post(self._url, data=body, headers=headers, allow_redirects=False)
                async with request as response:
                    if not 200 <= response.status < 300:  # a redirect is followed by nobody
                        raise DependencyFault(f"the alert webhook answers {response.status}")
        except (aiohttp.ClientError, TimeoutError, OSError) as fault:
            said = without_address(fault, self._url)
            raise DependencyFault(f"the alert webhook does not answer: {said}") from fault


def alert_saga(webhook: Webhook | None, retry: Policy) -> Saga:
    """How an alert gets out. One that can't is given up on, loudly in the log: nobody is left to be called about it."""
    return Saga(
        _KIND,
        steps=[
            remote(
                "post",
                _Posting(webhook),
                compensate=nothing,
                queue="notification-sending",
                reached="POSTED",
                retry=retry,
            )
        ],
        follow=_give_up,
    )


class Alerts:
    """Starts an alert for each dead letter, in the letter's own transaction."""

    def __init__(self, saga: Saga) -> None:
        self._saga = saga

    async def sound(self, tx: Tx, letters: Sequence[DeadLetter]) -> Sequence[Due]:
        """The alerts that this starts. About an alert there is none."""
        told = [letter for letter in letters if letter.payload.get("kind") != _KIND]
        return await start(
            tx, [Start.of(self._saga, one.id, str(one.saga_id or one.id), priority=_FIRST) for one in told]
        )


class _Posting:
    def __init__(self, webhook: Webhook | None) -> None:
        self._webhook = webhook

    async def prepare(self, tx: Tx, jobs: Sequence[Job]) -> Sequence[bytes | Outcome]:
        rows = {row["id"]: row for row in await LETTERS.rows(tx, [job.subject for job in jobs])}
        return [
            _body(rows[job.subject]) if job.subject in rows and self._webhook is not None else Done() for job in jobs
        ]

    async def call(self, request: bytes, key: str) -> None:
        if self._webhook is not None:
            await self._webhook.post(request, key)

    async def record(self, _tx: Tx, jobs: Sequence[Job], answers: Sequence[Any]) -> Sequence[Outcome]:
        return [
            Failed(str(answer) or repr(answer), "ALERT_UNHEARD") if isinstance(answer, Exception) else Done()
            for _, answer in zip(jobs, answers, strict=True)
        ]


def _body(row: Record) -> bytes:
    payload = msgspec.json.decode(row["payload"])
    saga_id: UUID | None = row["saga_id"]
    about = f"{payload.get('kind', 'a')} {payload.get('subject', 'message')}"
    text = f"Comanda: {about} is stuck at {row['step']} ({row['error']}). Look: comanda saga show {saga_id}"
    if saga_id is None:
        text = f"Comanda: a message in {row['queue']} could not be read. Look: comanda dead-letters list"
    return msgspec.json.encode(
        {
            "type": "saga.stuck" if saga_id else "message.unreadable",
            "id": row["id"],
            "at": rfc3339(row["created_at"]),
            "text": text,
            "queue": row["queue"],
            "step": row["step"],
            "direction": row["direction"],
            "error": row["error"],
            "sagaId": saga_id,
            "kind": payload.get("kind"),
            "subject": payload.get("subject"),
        }
    )


async def _give_up(_tx: Tx, passages: Sequence[Passage]) -> None:
    for one in passages:
        if one.event in {"exhausted", "stuck"}:
            _log.error("an alert could not be delivered: see COMANDA_ALERT_WEBHOOK_URL", letter=str(one.subject))
