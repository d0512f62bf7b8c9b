"""Endpoints of the shop's own systems, and the log of what was delivered to them."""

from collections.abc import Mapping, Sequence
from typing import Annotated
from uuid import UUID

from fastapi import Query, Response

from comanda import telemetry
from comanda.api.answers import Answer, Time
from comanda.api.bodies import Limit, RedeliverBody, WebhookBody, WebhookPatch
from comanda.api.conditional import TAGGED, Asked, IfMatch, marked, single, tag_of, unchanged
from comanda.api.document import answers
from comanda.api.once import hint
from comanda.api.paging import Cursor, cursor_of, next_link, read_cursor
from comanda.api.parts import Given, Parts
from comanda.api.problems import Problem
from comanda.api.security import Admin, router
from comanda.audit import acts
from comanda.audit.acts import Act
from comanda.clock import now, rfc3339
from comanda.failpoints import Boundary
from comanda.field_errors import FieldError, field_error
from comanda.webhooks import deliveries, endpoints
from comanda.webhooks.deliveries import Delivery, State
from comanda.webhooks.endpoints import Draft, Endpoint
from comanda.webhooks.model import shown, wrong_url

CREATE = Boundary("webhooks.create")
CHANGE = Boundary("webhooks.change")
DELETE = Boundary("webhooks.delete")
ROTATE = Boundary("webhooks.rotate")
SEND = Boundary("webhooks.send")

routes = router("/webhooks", "webhooks")


class WebhookAnswer(Answer):
    """`disabledReason`: why nothing is sent there.

    SWITCHED_OFF; GONE after it answered 410; UNREACHABLE after an event was given up on and nothing later was taken.
    """

    id: UUID
    url: str
    description: str | None
    event_types: Sequence[str]
    is_active: bool
    disabled_reason: str | None
    created_at: Time
    updated_at: Time


class WebhookSecretAnswer(Answer):
    """The secret is shown this once: `webhook-signature` is made with it, as Standard Webhooks have it."""

    id: UUID
    secret: str


class NewWebhookAnswer(WebhookAnswer):
    secret: str


class WebhookList(Answer):
    items: Sequence[WebhookAnswer]


class DeliveryAnswer(Answer):
    """`isAgain`: somebody asked for it once more."""

    id: UUID
    event_id: UUID
    event_type: str
    status: str
    is_again: bool
    created_at: Time
    ended_at: Time | None


class DeliveryPage(Answer):
    """`nextCursor`: send it as `cursor` to read on; null at the end."""

    items: Sequence[DeliveryAnswer]
    next_cursor: str | None


class DeliveryAttemptAnswer(Answer):
    """`status` is null where nobody answered; `error` says why. `answer`: its first 1,000 bytes."""

    attempt: int
    at: Time
    headers: Mapping[str, str]
    status: int | None
    answer: str | None
    error: str | None
    duration_ms: float


class DeliveryDetailAnswer(DeliveryAnswer):
    """`body` is what was signed, letter for letter."""

    body: str
    attempts: Sequence[DeliveryAttemptAnswer]


class RedeliveryAnswer(Answer):
    deliveries: int


@routes.post("", status_code=201)
async def create(account: Admin, body: WebhookBody, parts: Given, response: Response) -> NewWebhookAnswer:
    """Send events there, from now on. The secret is shown this once."""
    _check(parts, body.url)
    async with parts.database.transaction(CREATE) as tx:
        ((made, secret),) = await endpoints.create(tx, [Draft(body.url, body.description, body.event_types)])
        await acts.note(tx, [Act(account.email, "webhook.create", str(made.id))])
    response.headers.update({"Location": f"/api/v1/webhooks/{made.id}", "ETag": tag_of(_answer(made))})
    return NewWebhookAnswer(**_answer(made).model_dump(), secret=shown(secret))


@routes.get("")
async def listed(account: Admin, parts: Given) -> WebhookList:
    """All endpoints."""
    found = await parts.lists.read(account.id, endpoints.listed)
    return WebhookList(items=[_answer(one) for one in found])


@routes.get("/{webhook_id}", response_model=WebhookAnswer, responses=TAGGED | answers("WEBHOOK_NOT_FOUND"))
async def read(_account: Admin, webhook_id: UUID, parts: Given, asked: Asked) -> Response:
    """One endpoint."""
    return single(asked, _answer(await _known(parts, webhook_id)))


@routes.patch("/{webhook_id}", responses=answers("WEBHOOK_NOT_FOUND"))
async def change(
    account: Admin, webhook_id: UUID, body: WebhookPatch, parts: Given, if_match: IfMatch, response: Response
) -> WebhookAnswer:
    """Change an endpoint, or switch it off and on. What happens while it is off is not kept for it."""
    if body.url is not None:
        _check(parts, body.url)
    async with parts.database.transaction(CHANGE) as tx:
        await unchanged(tx, if_match, endpoints.locked, webhook_id, WebhookAnswer)
        (changed,) = await endpoints.change(tx, [(webhook_id, body.changes())])
        if changed is not None:
            fields = {"fields": sorted(body.changes())}
            await acts.note(tx, [Act(account.email, "webhook.change", str(webhook_id), detail=fields)])
    if changed is None:
        raise Problem("WEBHOOK_NOT_FOUND")
    return marked(response, _answer(changed))


@routes.delete("/{webhook_id}", status_code=204, responses=answers("WEBHOOK_NOT_FOUND"))
async def delete(account: Admin, webhook_id: UUID, parts: Given, if_match: IfMatch) -> Response:
    """Send nothing there any more."""
    async with parts.database.transaction(DELETE) as tx:
        await unchanged(tx, if_match, endpoints.locked, webhook_id, WebhookAnswer)
        (is_gone,) = await endpoints.delete(tx, [webhook_id])
        if is_gone:
            await acts.note(tx, [Act(account.email, "webhook.delete", str(webhook_id))])
    if not is_gone:
        raise Problem("WEBHOOK_NOT_FOUND")
    return Response(status_code=204)


@routes.post("/{webhook_id}/rotate-secret", responses=answers("WEBHOOK_NOT_FOUND"))
async def rotate(account: Admin, webhook_id: UUID, parts: Given) -> WebhookSecretAnswer:
    """A new secret. For 24 hours everything is signed with the one before as well, and with that one alone."""
    async with parts.database.transaction(ROTATE) as tx:
        (secret,) = await endpoints.rotate(tx, [webhook_id])
        if secret is not None:
            await acts.note(tx, [Act(account.email, "webhook.rotate", str(webhook_id))])
    if secret is None:
        raise Problem("WEBHOOK_NOT_FOUND")
    return WebhookSecretAnswer(id=webhook_id, secret=shown(secret))


@routes.post("/{webhook_id}/test", status_code=202, responses=answers("WEBHOOK_NOT_FOUND", "WEBHOOK_DISABLED"))
async def test(account: Admin, webhook_id: UUID, parts: Given, response: Response) -> DeliveryAnswer:
    """Send a `webhook.test`; look at its delivery for what came of it."""
    await _listening(parts, webhook_id)
    correlation_id = telemetry.correlation_id() or str(webhook_id)
    async with parts.database.transaction(SEND) as tx:
        saga = parts.assembly.definitions.webhook
        ids, due = await deliveries.ping(tx, saga, [webhook_id], correlation_id, now())
        (sent,) = await deliveries.find(tx, ids)
        await acts.note(tx, [Act(account.email, "webhook.test", str(webhook_id))])
    await hint(parts, due)
    assert sent is not None  # it was written in this transaction
    response.headers["Location"] = f"/api/v1/webhooks/{webhook_id}/deliveries/{sent.id}"
    return _delivery(sent)


@routes.get("/{webhook_id}/deliveries", responses=answers("WEBHOOK_NOT_FOUND"))
async def log(
    account: Admin,
    webhook_id: UUID,
    parts: Given,
    *,
    response: Response,
    status: Annotated[State | None, Query()] = None,
    limit: Limit = 20,
    cursor: Cursor | None = None,
) -> DeliveryPage:
    """What was sent there, newest first."""
    await _known(parts, webhook_id)
    before = read_cursor(cursor)
    found = await parts.lists.read(
        account.id, lambda tx: deliveries.page(tx, webhook_id, status, before=before, limit=limit + 1)
    )
    shown_ones = found[:limit]
    following = cursor_of(shown_ones[-1].id) if len(found) > limit else None
    if following is not None:
        path = f"/api/v1/webhooks/{webhook_id}/deliveries"
        response.headers["Link"] = next_link(path, {"status": status, "limit": limit}, following)
    return DeliveryPage(items=[_delivery(one) for one in shown_ones], next_cursor=following)


@routes.get("/{webhook_id}/deliveries/{delivery_id}", responses=answers("WEBHOOK_NOT_FOUND", "DELIVERY_NOT_FOUND"))
async def delivery(_account: Admin, webhook_id: UUID, delivery_id: UUID, parts: Given) -> DeliveryDetailAnswer:
    """One delivery: what was sent, with which headers, what was answered, how long it took, each time."""
    await _known(parts, webhook_id)
    found = await _sent(parts, webhook_id, delivery_id)
    async with parts.database.connection() as tx:
        tries = (await deliveries.attempts(tx, [delivery_id]))[delivery_id]
    attempts = [DeliveryAttemptAnswer.model_validate(one) for one in tries]
    return DeliveryDetailAnswer(**_delivery(found).model_dump(), body=found.body, attempts=attempts)


@routes.post(
    "/{webhook_id}/deliveries/{delivery_id}/redeliver",
    status_code=202,
    responses=answers("WEBHOOK_NOT_FOUND", "DELIVERY_NOT_FOUND", "WEBHOOK_DISABLED", "DELIVERY_UNDER_WAY"),
)
async def redeliver_one(account: Admin, webhook_id: UUID, delivery_id: UUID, parts: Given) -> RedeliveryAnswer:
    """Send it once more, under the same id: a receiver that has it knows that it has."""
    await _listening(parts, webhook_id)
    found = await _sent(parts, webhook_id, delivery_id)
    if found.state == "PENDING":
        raise Problem("DELIVERY_UNDER_WAY")
    async with parts.database.transaction(SEND) as tx:
        made, due = await deliveries.send_again(tx, parts.assembly.definitions.webhook, webhook_id, ids=[delivery_id])
        if made:
            again = {"delivery": str(delivery_id), "again": str(made[0])}
            await acts.note(tx, [Act(account.email, "webhook.redeliver", str(webhook_id), detail=again)])
    await hint(parts, due)
    return RedeliveryAnswer(deliveries=len(made))


@routes.post("/{webhook_id}/redeliver", status_code=202, responses=answers("WEBHOOK_NOT_FOUND", "WEBHOOK_DISABLED"))
async def redeliver(account: Admin, webhook_id: UUID, body: RedeliverBody, parts: Given) -> RedeliveryAnswer:
    """Send a range of time once more, in the order that it had; 10,000 at the most. `until` itself is left out."""
    if body.until is not None and body.until <= body.since:
        raise Problem("VALIDATION_FAILED", errors=[field_error("until", "no_time_between", since=rfc3339(body.since))])
    await _listening(parts, webhook_id)
    async with parts.database.transaction(SEND) as tx:
        saga = parts.assembly.definitions.webhook
        made, due = await deliveries.send_again(tx, saga, webhook_id, since=body.since, until=body.until)
        sent = {"deliveries": len(made)}
        await acts.note(tx, [Act(account.email, "webhook.redeliver", str(webhook_id), detail=sent)])
    await hint(parts, due)
    return RedeliveryAnswer(deliveries=len(made))


def _check(parts: Parts, url: str) -> None:
    why = wrong_url(url, parts.settings.webhook_allowed)
    if why is not None:
        raise Problem("VALIDATION_FAILED", errors=[FieldError("url", why)])


async def _known(parts: Parts, webhook_id: UUID) -> Endpoint:
    async with parts.database.connection() as tx:
        (found,) = await endpoints.find(tx, [webhook_id])
    if found is None:
        raise Problem("WEBHOOK_NOT_FOUND")
    return found


async def _listening(parts: Parts, webhook_id: UUID) -> None:
    if not (await _known(parts, webhook_id)).is_active:
        raise Problem("WEBHOOK_DISABLED", "Switch the endpoint on first: PATCH it with isActive true.")


async def _sent(parts: Parts, webhook_id: UUID, delivery_id: UUID) -> Delivery:
    async with parts.database.connection() as tx:
        (found,) = await deliveries.find(tx, [delivery_id])
    if found is None or found.endpoint_id != webhook_id:
        raise Problem("DELIVERY_NOT_FOUND")
    return found


def _answer(found: Endpoint) -> WebhookAnswer:
    return WebhookAnswer.model_validate(found)


def _delivery(found: Delivery) -> DeliveryAnswer:
    return DeliveryAnswer(
        id=found.id,
        event_id=found.event_id,
        event_type=found.event_type,
        status=found.state,
        is_again=found.is_again,
        created_at=found.created_at,
        ended_at=found.ended_at,
    )
