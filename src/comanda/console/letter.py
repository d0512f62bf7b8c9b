"""One dead letter: what went wrong, with what; and its message, put right after a look at the difference."""

import msgspec
from starlette.responses import Response

from comanda.api.once import hint_all
from comanda.console.ask import Ask, Refusal
from comanda.console.orders import ACT, settling
from comanda.db import Tx
from comanda.messaging import dead_letters
from comanda.notifications import corrections
from comanda.notifications.corrections import Stored, Wish
from comanda.notifications.render import LANGUAGES
from comanda.saga import log


async def show(ask: Ask) -> Response:
    """The letter, what it is about, and what was ever changed in it."""
    letter_id = ask.id_of("letter_id")
    async with ask.parts.assembly.lists.connection() as tx:
        (letter,) = await dead_letters.find(tx, [letter_id])
        if letter is None:
            raise Refusal(404, "There is no such letter.")
        sagas, _ = await log.show(tx, letter["saga_id"]) if letter["saga_id"] else ([], [])
        (message,) = await corrections.messages(tx, [letter_id])
        told = [] if message is None else (await corrections.of_messages(tx, [message.id]))[message.id]
    return ask.page(
        "letter.html",
        letter=letter,
        payload=_pretty(letter["payload"]),
        saga=sagas[0] if sagas else None,
        message=message,
        told=told,
        tongues=sorted(LANGUAGES),
    )


async def change(ask: Ask) -> Response:
    """Say what would be another; once that is confirmed, with a reason, put the message right and send it again."""
    letter_id = ask.id_of("letter_id")
    wish = Wish(letter_id, ask.form.get("recipient", "").strip(), ask.form.get("language", ""))
    if not ask.form.get("confirmed"):
        async with ask.parts.assembly.lists.connection() as tx:
            return ask.page("letter_change.html", message=await _message(tx, wish), wish=wish, letter_id=letter_id)
    reason = ask.reason()
    async with ask.parts.database.transaction(ACT) as tx:
        await _message(tx, wish)
        (refusal,), result = await corrections.correct(tx, settling(ask), [wish], actor=ask.actor, reason=reason)
        if refusal is not None:
            raise Refusal(409, refusal)
    await hint_all(ask.parts, result.onward)
    ask.desk.pulse.forget()
    return ask.go(f"/admin/dead-letters/letter/{letter_id}", "1 ↻")


async def _message(tx: Tx, wish: Wish) -> Stored:
    (message,) = await corrections.messages(tx, [wish.letter_id])
    refusal = corrections.refused(message, wish)
    if message is None or refusal is not None:
        raise Refusal(404 if message is None else 422, refusal or "")
    return message


def _pretty(payload: str) -> str:
    return msgspec.json.format(payload, indent=2)
