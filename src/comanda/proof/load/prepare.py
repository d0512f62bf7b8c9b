"""What has to be there before the first order: customers who are signed in, products, their stock."""

import asyncio
import hashlib
import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from comanda.errors import ConfigurationFault
from comanda.proof.load.client import Api, unexpected
from comanda.proof.load.plan import Good

_PAGE = 100
_AT_ONCE = 16
_PASSWORDS_AT_ONCE = 4  # each costs the server some 20 ms of a processor
_LONG = 3600.0  # seconds

Told = Callable[[str], None]
Advanced = Callable[[], None]


@dataclass(slots=True)
class Person:
    """Somebody who can sign in; the token is of the last time."""

    email: str
    password: str
    token: str = ""


@dataclass(frozen=True, slots=True)
class Stocked:
    """A product as the server has it; the price in minor units."""

    id: str
    price: int


async def sign_in(api: Api, person: Person) -> bool:
    """Fetch a token; False: the server does not know them.

    Raises:
        DependencyFault: any other answer.
    """
    reply = await api.ask("POST", "/auth/login", {"email": person.email, "password": person.password})
    if reply.status == 200:
        person.token = reply.body["accessToken"]
    elif reply.status != 401:
        raise unexpected("POST", "/auth/login", reply)
    return reply.status == 200


async def sign_in_admin(api: Api, person: Person) -> None:
    """As `sign_in`.

    Raises:
        ConfigurationFault: e-mail or password is wrong.
    """
    if not await sign_in(api, person):
        raise ConfigurationFault(f"{person.email} can't sign in: see COMANDA_ADMIN_EMAIL and COMANDA_ADMIN_PASSWORD")


async def customers(
    api: Api, admin: Person, numbers: Sequence[int], *, advanced: Advanced, told: Told
) -> dict[int, Person]:
    """Customers by their numbers, the same ones in every run; those who are not there yet are registered.

    Args:
        api: the instance.
        admin: whose password the customers' ones are derived from, so that nobody can guess them.
        numbers: which ones.
        advanced: told after each.
        told: gets sentences for whoever waits.
    """
    secret = admin.password.encode()
    group = hmac.new(secret, b"load", hashlib.sha256).hexdigest()[:8]
    slots = asyncio.Semaphore(_PASSWORDS_AT_ONCE)

    def waits(seconds: float) -> None:
        told(f"A rate limit lets nobody in for {seconds:.0f} s; COMANDA_RATE_LIMITS=off lifts it")

    async def one(number: int) -> Person:
        email = f"load-{group}-{number}@example.com"
        person = Person(email, hmac.new(secret, email.encode(), hashlib.sha256).hexdigest())
        async with slots:
            if not await sign_in(api, person):
                names = {"firstName": "Load", "lastName": str(number)}
                body = {"email": person.email, "password": person.password, **names}
                reply = await api.ask("POST", "/auth/register", body, patience=_LONG, on_wait=waits)
                if reply.status == 201:
                    person.token = reply.body["accessToken"]
                # Taken: an earlier try got through, its answer did not.
                elif reply.code != "EMAIL_TAKEN" or not await sign_in(api, person):
                    raise unexpected("POST", "/auth/register", reply)
        advanced()
        return person

    async with asyncio.TaskGroup() as everybody:
        tasks = {number: everybody.create_task(one(number)) for number in numbers}
    return {number: task.result() for number, task in tasks.items()}


async def catalogue(
    api: Api, admin: Person, goods: Sequence[Good], *, units: int, advanced: Advanced
) -> dict[str, Stocked]:
    """Products by SKU, each with stock; those that an earlier run made are found again.

    Args:
        api: the instance.
        admin: who may.
        goods: SKUs begin with the same prefix up to their last `-`.
        units: of each, where there is no stock yet.
        advanced: told after each.
    """
    known: dict[str, Stocked] = {}
    for prefix in sorted({good.sku.rpartition("-")[0] + "-" for good in goods}):
        known |= await _known(api, prefix)
    slots = asyncio.Semaphore(_AT_ONCE)

    async def one(good: Good) -> Stocked:
        async with slots:
            found = known.get(good.sku) or await _made(api, admin, good)
            body = {"productId": found.id, "initialStock": units}
            reply = await api.ask("POST", "/inventory", body, token=admin.token)
            if reply.status != 201 and reply.code != "STOCK_EXISTS":
                raise unexpected("POST", "/inventory", reply)
        advanced()
        return found

    async with asyncio.TaskGroup() as everything:
        tasks = {good.sku: everything.create_task(one(good)) for good in goods}
    return {sku: task.result() for sku, task in tasks.items()}


async def _known(api: Api, text: str) -> dict[str, Stocked]:
    found: dict[str, Stocked] = {}
    page = 1
    while True:
        query = {"search": text, "limit": _PAGE, "page": page, "sortBy": "sku", "sortOrder": "asc"}
        body = await api.expect(200, "GET", f"/products?{urlencode(query)}")
        found |= {one["sku"]: Stocked(one["id"], one["price"]) for one in body["items"]}
        if len(body["items"]) < _PAGE:
            return found
        page += 1


async def _made(api: Api, admin: Person, good: Good) -> Stocked:
    body = {"name": good.name, "sku": good.sku, "price": good.price}
    reply = await api.ask("POST", "/products", body, token=admin.token)
    if reply.status == 201:
        return Stocked(reply.body["id"], reply.body["price"])
    if reply.code == "SKU_TAKEN" and (found := (await _known(api, good.sku)).get(good.sku)):
        return found
    raise unexpected("POST", "/products", reply)
