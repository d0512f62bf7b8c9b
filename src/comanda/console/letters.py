"""Dead letters: one line for each thing that went wrong; one, five or all of them are sent round again."""

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from starlette.responses import Response

from comanda.api.once import hint_all
from comanda.bulk import filters, selection
from comanda.console.ask import Ask, Refusal, uuid_or_none
from comanda.console.orders import ACT, settling
from comanda.console.shown import offered
from comanda.db import Record, twin
from comanda.messaging import dead_letters
from comanda.messaging.queues import QUEUES
from comanda.saga import verbs

_sql = twin(__file__)
GROUPS = _sql["groups"]

_SHOWN = 100
_AT_ONCE = 1000  # in one transaction
_COUNTS = {"one": 1, "five": 5, "all": _AT_ONCE}
_FEW = 5


async def groups(ask: Ask) -> Response:
    """What went wrong, since when, for how many orders, and how much money they are worth."""
    asked = {name: ask.asked(name) for name in filters.FIELDS["letters"]}
    wanted = filters.read("letters", asked)
    if isinstance(wanted, str):
        raise Refusal(422, wanted)
    async with ask.parts.assembly.lists.connection() as tx:
        rows = await GROUPS.rows(
            tx, wanted.age, wanted.get("queue"), wanted.get("step"), selection.like(wanted.get("error")),
            wanted.get("fingerprint"),
        )  # fmt: skip
    merged = _merged(rows)
    return ask.page(
        "letters.html",
        groups=merged,
        asked=asked,
        is_filtered=bool(wanted.asked),
        queues=QUEUES,
        act_on=offered(ask, "letters", asked) if merged else None,
    )


async def group(ask: Ask) -> Response:
    """The letters of one fingerprint, oldest first: in that order they are sent round."""
    fingerprint = ask.request.path_params["fingerprint"]
    async with ask.parts.assembly.lists.connection() as tx:
        rows = await dead_letters.alike(tx, fingerprint, _SHOWN + 1)
    act_on = offered(ask, "letters", {"fingerprint": fingerprint})
    # Whoever has just sent all of them round again sees that none is left.
    status = 200 if rows or ask.said else 404
    return ask.page(
        "letter_group.html",
        status=status,
        fingerprint=fingerprint,
        rows=rows[:_SHOWN],
        has_more=len(rows) > _SHOWN,
        act_on=act_on,
        oldest=" ".join(str(row["id"]) for row in rows[:_FEW]),
    )


async def redrive(ask: Ask) -> Response:
    """Send some of them round again. More than can be at once is a bulk act.

    One or five are those that were shown as the oldest: whoever comes second finds them gone, and takes no others.
    """
    fingerprint, reason = ask.request.path_params["fingerprint"], ask.reason()
    count = _COUNTS.get(ask.form.get("count", ""))
    if count is None:
        raise Refusal(422, "One, five or all of them?")
    parts = ask.parts
    if count == _AT_ONCE:
        async with parts.database.connection() as tx:
            is_more = len(await dead_letters.alike(tx, fingerprint, _AT_ONCE + 1)) > _AT_ONCE
        look = offered(ask, "letters", {"fingerprint": fingerprint})
        if is_more and look is not None:
            return ask.go(look)
    shown = _shown(ask) if count != _AT_ONCE else []
    async with parts.database.transaction(ACT) as tx:
        ids = shown[:count] or [one["id"] for one in await dead_letters.alike(tx, fingerprint, count)]
        acted, _, result = await verbs.redrive(tx, settling(ask), ids, actor=ask.actor, reason=reason, limit=count)
    await hint_all(parts, result.onward)
    ask.desk.pulse.forget()
    refused = [one.refusal for one in acted if one.refusal is not None]
    done = len(acted) - len(refused)
    said = f"{done} ↻" + (f" · {len(refused)} ✕ {refused[0]}" if refused else "")
    return ask.go(f"/admin/dead-letters/{fingerprint}", said)


def _shown(ask: Ask) -> list[UUID]:
    """The oldest, as the page had them.

    Raises:
        Refusal: the form names none.
    """
    found = [uuid_or_none(one) for one in ask.form.get("oldest", "").split(" ")[:_FEW]]
    named = [one for one in found if one is not None]
    if not named or len(named) < len(found):
        raise Refusal(422, "The form can't be read.")
    return named


def _merged(rows: Iterable[Record]) -> list[dict[str, Any]]:
    """One line for each fingerprint, whatever currencies its orders have."""
    merged: dict[str, dict[str, Any]] = {}
    for row in rows:
        one = merged.setdefault(row["fingerprint"], {**row, "letters": 0, "orders": 0, "amounts": []})
        one["letters"] += row["letters"]
        one["orders"] += row["orders"]
        one["first_at"], one["last_at"] = min(one["first_at"], row["first_at"]), max(one["last_at"], row["last_at"])
        if row["currency"] is not None:
            one["amounts"].append((row["amount"], row["currency"]))
    return list(merged.values())
