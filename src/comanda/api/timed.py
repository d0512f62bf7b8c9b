"""The time that a request may take."""

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from comanda.errors import DependencyFault

_BODILESS = {"GET", "HEAD", "OPTIONS"}
_abandoned: set[asyncio.Task[None]] = set()


class Timed:
    """Answers for an application that takes longer than so many seconds, from the end of the request's body on."""

    def __init__(self, app: ASGIApp, patience: float) -> None:
        self._app = app
        self._patience = patience

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        loop = asyncio.get_running_loop()
        late: asyncio.Future[None] = loop.create_future()
        is_over = False

        def ring() -> None:
            # Who asked to be kept waiting is not late.
            if not late.done() and not scope.get("comanda.unhurried"):
                late.set_result(None)

        def start() -> asyncio.TimerHandle:
            return loop.call_later(self._patience, ring)

        async def run() -> None:
            await self._app(scope, received, sent)

        clock = start() if scope["method"] in _BODILESS else None

        async def received() -> Message:
            nonlocal clock
            message = await receive()
            if clock is None and not message.get("more_body"):
                clock = start()
            return message

        async def sent(message: Message) -> None:
            if not is_over:
                await send(message)

        task = loop.create_task(run())
        try:
            await asyncio.wait({task, late}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                # What it holds is given back in its own time; whoever asked does not wait for that.
                is_over = True
                _abandoned.add(task)
                task.add_done_callback(_forget)
                raise DependencyFault(f"no answer within {self._patience} s")
            task.result()
        finally:
            task.cancel()
            late.cancel()
            if clock is not None:
                clock.cancel()


def _forget(task: asyncio.Task[None]) -> None:
    _abandoned.discard(task)
    if not task.cancelled():
        task.exception()  # the answer is given already
