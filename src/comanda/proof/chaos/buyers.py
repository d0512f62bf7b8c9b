"""Customers who don't give up, and remember what they were told."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from comanda.proof.chaos.asked import Asked
from comanda.proof.chaos.demand import Demand, Intent
from comanda.proof.load import prepare
from comanda.proof.load.client import Api, Reply
from comanda.proof.load.plan import due_at
from comanda.proof.load.prepare import Person, Stocked

_ACCEPTED = 202
_PATIENCE = 90.0  # seconds in which an order has to be accepted or refused for good
_REQUEST_PATIENCE = 10.0
_PROBE_EVERY = 0.25


@dataclass
class Buyers:
    """All of them. `people` by number, with the id that the server gave each; `shelf` by SKU."""

    api: Api
    demand: Demand
    people: Mapping[int, Person]
    ids: Mapping[int, str]
    shelf: Mapping[str, Stocked]
    asked: list[Asked] = field(default_factory=list)

    @property
    def accepted(self) -> int:
        return sum(bool(one.answers) for one in self.asked)

    async def buy(self, duration: float) -> None:
        """Send all orders at a steady rate, and stay until each is answered for good."""
        rate, began = len(self.demand.orders) / duration, time.monotonic()
        async with asyncio.TaskGroup() as everybody:
            for number, intent in enumerate(self.demand.orders):
                wait = began + due_at(number, rate) - time.monotonic()
                if wait > 0:
                    await asyncio.sleep(wait)
                everybody.create_task(self.place(intent))

    async def probe(self, until: asyncio.Event) -> None:
        """A light order now and then, so that a recovery is seen when the others have ended."""
        number = 0
        async with asyncio.TaskGroup() as everybody:
            while not until.is_set():
                number += 1
                intent = Intent(f"probe-{number}", 0, [(self.demand.probed, 1)], "pm_success")
                everybody.create_task(self.place(intent))
                await asyncio.sleep(_PROBE_EVERY)

    async def again(self, intent: Intent) -> None:
        """Send an order once more that was sent before."""
        one = next(one for one in self.asked if one.key == intent.key)
        await self._send(one, self.people[intent.customer], self._body(intent))

    async def place(self, intent: Intent) -> None:
        """Send one order, twice at once if it is meant so, until it is answered for good."""
        one = self._noted(intent)
        body = self._body(intent)
        sends = [self._send(one, self.people[intent.customer], body) for _ in range(1 + intent.is_doubled)]
        await asyncio.gather(*sends)

    async def once(self, intent: Intent) -> Reply:
        """Send one order as a client that does not try again."""
        one = self._noted(intent)
        body = self._body(intent)
        person = self.people[intent.customer]
        reply = await self.api.ask("POST", "/orders", body, token=person.token, key=one.key, patience=0)
        if reply.status == _ACCEPTED:
            self._heard(one, reply)
        return reply

    async def persist(self, one: Asked) -> None:
        """Send once more, until it is answered for good, what was sent and never answered."""
        number = next(n for n, known in self.ids.items() if known == one.customer)
        skus = {stocked.id: sku for sku, stocked in self.shelf.items()}
        intent = Intent(one.key, number, [(skus[product], count) for product, count in one.units.items()], one.method)
        await self._send(one, self.people[number], self._body(intent))

    def _noted(self, intent: Intent) -> Asked:
        units = {self.shelf[sku].id: quantity for sku, quantity in intent.lines}
        total = sum(self.shelf[sku].price * quantity for sku, quantity in intent.lines)
        one = Asked(intent.key, self.ids[intent.customer], total, units, time.time(), method=intent.method)
        self.asked.append(one)
        return one

    def _heard(self, one: Asked, reply: Reply) -> None:
        one.accepted = one.accepted or time.time()
        one.answers.append((reply.body["orderId"], reply.body["totalAmount"]))

    def _body(self, intent: Intent) -> dict[str, Any]:
        items = [{"productId": self.shelf[sku].id, "quantity": quantity} for sku, quantity in intent.lines]
        return {"items": items} | ({"paymentMethod": intent.method} if intent.method else {})

    async def _send(self, one: Asked, person: Person, body: Mapping[str, Any]) -> None:
        give_up = time.monotonic() + _PATIENCE
        while True:
            reply = await self._ask(person, one.key, body)
            if reply.status == _ACCEPTED:
                self._heard(one, reply)
                return
            is_for_good = 400 <= reply.status < 500 and reply.status not in {401, 409, 429}
            if is_for_good or time.monotonic() > give_up:
                one.refusal = reply.code
                return
            if reply.status == 401:
                await prepare.sign_in(self.api, person)

    async def _ask(self, person: Person, key: str, body: Mapping[str, Any]) -> Reply:
        return await self.api.ask("POST", "/orders", body, token=person.token, key=key, patience=_REQUEST_PATIENCE)
