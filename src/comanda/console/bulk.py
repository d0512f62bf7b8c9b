"""Acts on all that a filter shows: looked at first, confirmed with a reason, watched, stopped, resumed."""

import contextlib
from collections.abc import Mapping
from datetime import datetime, timedelta
from urllib.parse import urlencode
from uuid import UUID

from starlette.responses import Response

from comanda.bulk import bulks, chunks, filters, selection
from comanda.bulk.filters import BulkVerb, Filter
from comanda.bulk.selection import MOST, Selected
from comanda.clock import new_id
from comanda.console import effects
from comanda.console.ask import Ask, Refusal, uuid_or_none
from comanda.console.orders import ACT, PAGE
from comanda.console.shown import where

_GOOD_FOR = timedelta(hours=1)  # a look; after that it is looked again
_GROUPS = 10
_NOTHING_HERE = "There is nothing at this address."


async def look(ask: Ask) -> Response:
    """What an act on all of these would do. Nothing is done."""
    ask.request.scope["comanda.unhurried"] = True  # it tries hundreds
    wanted = _wanted({name: ask.asked(name) for name in ("of", *_names())})
    verb = _verb(wanted, ask.asked("verb") or filters.VERBS[wanted.of][0])
    parts = ask.parts
    seen = await chunks.rehearse(
        parts.database, parts.assembly.lists, parts.assembly.by_hand, wanted, verb, actor=ask.actor
    )
    return ask.page(
        "bulk_look.html",
        wanted=wanted,
        verb=verb,
        verbs=filters.VERBS[wanted.of],
        seen=seen,
        most=MOST,
        groups=[(one, count, _effects(ask, verb, one)) for one, count in seen.groups[:_GROUPS]],
        more_groups=max(0, len(seen.groups) - _GROUPS),
        bulk_id=new_id(),
        back=where(wanted),
    )


async def begin(ask: Ask) -> Response:
    """Keep what was shown, and have it acted on; sent twice it is one act."""
    ask.request.scope["comanda.unhurried"] = True  # it may keep 100,000
    wanted = _wanted({name: ask.form.get(name, "")[:200] for name in ("of", *_names())})
    verb, reason = _verb(wanted, ask.form.get("verb", "")), ask.reason()
    bulk_id, seen_at, shown = _form(ask)
    async with ask.parts.assembly.lists.connection() as tx:
        (known,) = await bulks.find(tx, [bulk_id])
        if known is not None:
            return ask.go(f"/admin/bulk/{bulk_id}")
        moment = await selection.moment(tx)
        if seen_at < moment - _GOOD_FOR:
            raise Refusal(409, "This look is out of date. Nothing was done; look again.")
        selected = await selection.select(tx, wanted, min(seen_at, moment))
    if not selected:
        raise Refusal(409, "Nothing of it is left to act on.")
    if len(selected) > min(shown, MOST):
        raise Refusal(409, "More match than were shown. Nothing was done; look again.")
    async with ask.parts.database.transaction(ACT) as tx:
        await bulks.begin(tx, bulk_id, verb, wanted, selected, actor=ask.actor, reason=reason)
    ask.desk.pulse.forget()
    return ask.go(f"/admin/bulk/{bulk_id}")


async def listed(ask: Ask) -> Response:
    """The newest acts on many."""
    async with ask.parts.assembly.lists.connection() as tx:
        rows = await bulks.page(tx, before=ask.before(), limit=PAGE + 1)
        rates = await bulks.rates(tx)
    more = f"/admin/bulk?before={rows[PAGE - 1].id}" if len(rows) > PAGE else None
    return ask.page("bulks.html", rows=rows[:PAGE], rates=rates, is_further=ask.before() is not None, next=more)


async def show(ask: Ask) -> Response:
    """One of them: how far it is, and what came of each item."""
    bulk_id, without_done = ask.id_of("bulk_id"), ask.asked("only") == "refused"
    asked = ask.asked("after")
    after = int(asked) if asked.isascii() and asked.isdigit() and len(asked) < 9 else 0
    async with ask.parts.assembly.lists.connection() as tx:
        (one,) = await bulks.find(tx, [bulk_id])
        if one is None:
            raise Refusal(404, "There is no such act.")
        rows = await bulks.results(tx, bulk_id, after=after, limit=PAGE + 1, without_done=without_done)
        rates = await bulks.rates(tx)
    query = {"only": "refused"} if without_done else {}
    more = None
    if len(rows) > PAGE:
        more = f"/admin/bulk/{bulk_id}?{urlencode({**query, 'after': rows[PAGE - 1].position})}"
    return ask.page(
        "bulk.html",
        one=one,
        rate=rates.get(one.id),
        rows=rows[:PAGE],
        without_done=without_done,
        back=where(one.filter),
        next=more,
    )


async def switch(ask: Ask) -> Response:
    """Stop it between two chunks, or go on."""
    bulk_id, wanted, reason = ask.id_of("bulk_id"), ask.request.path_params["move"], ask.reason()
    moves = {"stop": bulks.stop, "resume": bulks.resume}
    if wanted not in moves:
        raise Refusal(404, _NOTHING_HERE)
    async with ask.parts.database.transaction(ACT) as tx:
        (one,) = await moves[wanted](tx, [bulk_id], actor=ask.actor, reason=reason)
    if one is None:
        raise Refusal(409, "It does not stand so that this could be done.")
    ask.desk.pulse.forget()
    return ask.go(f"/admin/bulk/{bulk_id}", f"{one.worked} / {one.items}")


def _effects(ask: Ask, verb: BulkVerb, one: Selected) -> list[effects.Sentence]:
    if one.kind is None:
        return [("Nobody could read it: its letter is closed. What is due stands in PostgreSQL all the same.", {})]
    definition = {(saga.name, saga.version): saga for saga in ask.parts.assembly.sagas}.get(
        (one.kind, one.version or 0)
    )
    if definition is None or one.step not in {step.name for step in definition.steps}:
        return []
    row = {"id": "…", "step": one.step, "direction": one.direction}
    return effects.of("retry" if verb == "redrive" else verb, row, definition)


def _names() -> list[str]:
    return list(dict.fromkeys(name for fields in filters.FIELDS.values() for name in fields))


def _wanted(given: Mapping[str, str]) -> Filter:
    fields = dict(given)
    found = filters.read(fields.pop("of", ""), fields)
    if isinstance(found, str):
        raise Refusal(422, found)
    return found


def _verb(wanted: Filter, asked: str) -> BulkVerb:
    verb = filters.verb_of(wanted.of, asked)
    if verb is None:
        raise Refusal(422, "This can't be done to these.")
    return verb


def _form(ask: Ask) -> tuple[UUID, datetime, int]:
    """What the look wrote into its form: the act's id, when it looked, how many it showed."""
    bulk_id, shown = uuid_or_none(ask.form.get("id", "")), ask.form.get("shown", "")
    seen_at: datetime | None = None
    with contextlib.suppress(ValueError):
        seen_at = datetime.fromisoformat(ask.form.get("seen_at", ""))
    is_whole = shown.isascii() and shown.isdigit() and len(shown) < 9
    if bulk_id is None or bulk_id.version != 7 or seen_at is None or seen_at.tzinfo is None or not is_whole:
        raise Refusal(422, "The form can't be read.")
    return bulk_id, seen_at, int(shown)
