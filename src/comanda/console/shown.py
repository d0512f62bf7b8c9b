"""The addresses of what a filter shows, and of acting on all of it."""

from collections.abc import Mapping
from urllib.parse import quote, urlencode

from comanda.bulk import filters
from comanda.bulk.filters import Filter
from comanda.console.ask import Ask


def where(wanted: Filter) -> str:
    """The page that shows what a filter shows."""
    query = f"?{urlencode(wanted.asked)}" if wanted.asked else ""
    match wanted.of:
        case "orders":
            return f"/admin/orders{query}"
        case "stuck":
            return f"/admin/stuck{query}"
        case "letters" if set(wanted.asked) == {"fingerprint"}:
            return f"/admin/dead-letters/{quote(wanted.asked['fingerprint'], safe='')}"
        case _:
            return f"/admin/dead-letters{query}"


def offered(ask: Ask, of: str, asked: Mapping[str, str]) -> str | None:
    """Where all of these can be acted on; None where they can't be, or not by who asks."""
    wanted = filters.read(of, asked)
    if not ask.may_act or not isinstance(wanted, Filter):
        return None
    return f"/admin/bulk/look?{urlencode(wanted.plain())}"
