"""A small catalogue to try orders on."""

from uuid import UUID

from comanda.catalog import products
from comanda.catalog.products import Draft, Product
from comanda.db import Tx
from comanda.inventory import admin

_COFFEE = UUID("00000000-0000-7000-8000-000000000001")
_GOODS = [
    Draft("Espresso beans, 1 kg", "COFFEE-1KG", 1899, brand="Comanda Roasters", tags=["coffee"], id=_COFFEE),
    Draft("Pour-over kettle", "KETTLE-09L", 6450, brand="Hario", tags=["equipment"]),
    Draft("Ceramic cup, 180 ml", "CUP-180", 1250, brand="Loza", tags=["tableware"]),
    Draft("Hand grinder", "GRINDER-H1", 12900, brand="Molino", tags=["equipment"]),
    Draft("Paper filters, 100", "FILTER-100", 790, brand="Hario", tags=["coffee"]),
    Draft("Espresso machine", "MACHINE-E1", 129900, brand="Faema", tags=["equipment"]),
]
_UNITS = 1000
_NOBODY = UUID(int=0)


async def stock_up(tx: Tx) -> None:
    """The demo's products, with stock; those that are there already stay as they are."""
    made = await products.create(tx, _GOODS)
    fresh = [one for one in made if isinstance(one, Product)]
    if fresh:
        await admin.create(tx, [admin.Opening(one.id, _UNITS) for one in fresh], actor=_NOBODY, correlation_id="demo")
