"""The four queues: how much stands there, who works on what; paused, resumed, limited while everything runs."""

from starlette.responses import Response

from comanda.console.ask import Ask, Refusal
from comanda.console.orders import ACT, PAGE
from comanda.messaging.queues import QUEUES
from comanda.saga import log, switching

_FASTEST = 1_000_000  # jobs a second: more is no limit


async def show(ask: Ask) -> Response:
    """The four, live."""
    return ask.page("queues.html", seen=await ask.desk.pulse.look())


async def jobs(ask: Ask) -> Response:
    """The newest jobs of one queue, and how far each has come."""
    queue = known(ask)
    async with ask.parts.assembly.lists.connection() as tx:
        rows = await log.unended(tx, queue, PAGE)
    seen = await ask.desk.pulse.look()
    one = next((one for one in seen.queues if one.name == queue), None)
    return ask.page("queue.html", queue=queue, rows=rows, one=one, done=seen.throughput.get(queue))


async def switch(ask: Ask) -> Response:
    """Pause, resume or limit a queue; workers follow within a second."""
    queue, wanted, reason = known(ask), ask.request.path_params["switch"], ask.reason()
    rate = ask.form.get("rate", "")
    if wanted not in {"pause", "resume", "limit"}:
        raise Refusal(404, "There is nothing at this address.")
    if wanted == "limit" and not (rate.isascii() and rate.isdigit() and len(rate) < 9 and int(rate) <= _FASTEST):
        raise Refusal(422, "A limit is a number of jobs a second; 0: no limit.")
    async with ask.parts.database.transaction(ACT) as tx:
        if wanted == "limit":
            await switching.limit(tx, queue, int(rate) or None, actor=ask.actor, reason=reason)
        else:
            await switching.pause(tx, queue, is_paused=wanted == "pause", actor=ask.actor, reason=reason)
    ask.desk.pulse.forget()
    return ask.go(f"/admin/queues/{queue}", f"{queue}: {wanted}")


def known(ask: Ask) -> str:
    queue: str = ask.request.path_params["queue"]
    if queue not in QUEUES:
        raise Refusal(404, "There is nothing at this address.")
    return queue
