"""Staff who ship, refund, take back and cancel while everything is being hurt, and remember what they were promised."""

import asyncio
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from comanda.proof.chaos.asked import Promised
from comanda.proof.load import prepare
from comanda.proof.load.client import Api, Reply
from comanda.proof.load.prepare import Person

_LOOK_EVERY = 0.5
_PAGE = 100
_PATIENCE = 60.0
_REQUEST_PATIENCE = 10.0
_FATES = {
    "ship": 20,
    "refund a part": 10,
    "refund all": 5,
    "withdraw": 5,
    "ship and take back": 8,
    "cancel": 10,
    "": 42,
}


@dataclass
class Staff:
    """One person who may do everything. What becomes of which order is drawn from the seed and the order's turn."""

    api: Api
    person: Person
    seed: str
    promised: list[Promised] = field(default_factory=list)
    _seen: set[str] = field(default_factory=set)

    async def work(self, until: asyncio.Event) -> None:
        """Take care of whatever has been confirmed, until told to stop; what was begun is finished."""
        draw = random.Random(f"staff/{self.seed}")  # noqa: S311 - a repeatable plan, no secret
        async with asyncio.TaskGroup() as desk:
            while not until.is_set():
                for order in await self._confirmed():
                    if order["orderId"] not in self._seen:
                        self._seen.add(order["orderId"])
                        fate = draw.choices(list(_FATES), list(_FATES.values()))[0]
                        desk.create_task(self._settle(order, fate, draw.random()))
                await asyncio.sleep(_LOOK_EVERY)

    async def _confirmed(self) -> list[dict[str, Any]]:
        reply = await self._ask("GET", f"/orders?status=CONFIRMED&limit={_PAGE}", None)
        return list(reply.body["items"]) if reply.status == 200 else []

    async def _settle(self, order: Mapping[str, Any], fate: str, share: float) -> None:
        order_id, total, first = order["orderId"], order["totalAmount"], order["items"][0]
        one = [{"productId": first["productId"], "quantity": 1}]
        match fate:
            case "ship":
                await self._ask("POST", f"/orders/{order_id}/shipments", {})
            case "refund a part":
                await self._promise(order_id, "refunds", {"reason": "late", "amount": max(1, int(total * share))})
            case "refund all":
                await self._promise(order_id, "refunds", {"reason": "lost"})
            case "withdraw":
                await self._promise(order_id, "refunds", {"reason": "short", "items": one, "restock": True})
            case "ship and take back":
                await self._ask("POST", f"/orders/{order_id}/shipments", {})
                await self._promise(order_id, "returns", {"reason": "broken", "items": one})
            case "cancel":
                await self._promise(order_id, "cancel", {"reason": "sold out"})

    async def _promise(self, order_id: str, verb: str, body: Mapping[str, Any]) -> None:
        """Ask under a key until it is answered for good."""
        path, key = f"/orders/{order_id}/{verb}", f"staff-{self.seed}-{order_id}-{verb}"
        give_up = asyncio.get_running_loop().time() + _PATIENCE
        while True:
            reply = await self._ask("POST", path, body, key)
            if reply.status == 202:
                amount = reply.body["amount"] if verb != "cancel" else 0
                units = {item["productId"]: item["quantity"] for item in reply.body.get("items", ())}
                back = units if reply.body.get("restocked") else {}
                self.promised.append(Promised(order_id, verb, amount, back))
                return
            if 400 <= reply.status < 500 and reply.status != 401:
                return
            if asyncio.get_running_loop().time() > give_up:
                self.promised.append(Promised(order_id, verb, 0, {}, is_unsure=True))
                return

    async def _ask(self, method: str, path: str, body: Any, key: str = "") -> Reply:
        reply = await self.api.ask(method, path, body, token=self.person.token, key=key, patience=_REQUEST_PATIENCE)
        if reply.status == 401:
            await prepare.sign_in(self.api, self.person)
        return reply
