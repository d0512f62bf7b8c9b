"""The middle of a page that keeps itself up to date: rendered once for all who see the same."""

from typing import Any
from uuid import UUID

from comanda.console import pictures
from comanda.console.pulse import Seen
from comanda.console.render import Language, Pages, clock_time

VIEWS = {"overview": "_overview.html", "queues": "_queues.html", "bulks": "_bulks.html", "bulk": "_bulk.html"}


class Pieces:
    """As server-sent events. Nothing in them depends on who looks, but for the language."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._seen: Seen | None = None
        self._rendered: dict[tuple[Language, str, UUID | None], bytes] = {}

    def of(self, seen: Seen, language: Language, view: str, bulk_id: UUID | None = None) -> bytes:
        """One of `VIEWS`, as it was seen; nothing of a bulk act that ended long ago: its page shows that."""
        if seen is not self._seen:
            self._seen, self._rendered = seen, {}
        known = self._rendered.get((language, view, bulk_id))
        if known is None:
            shown = values(seen)
            if view == "bulks":
                shown |= {"rows": seen.bulks, "rates": seen.rates}
            elif view == "bulk":
                one = next((one for one in seen.bulks if one.id == bulk_id), None)
                if one is None:
                    return b""
                shown |= {"one": one, "rate": seen.rates.get(one.id)}
            piece = self._pages.render(language, VIEWS[view], shown)
            lines = "".join(f"data: {line}\n" for line in piece.splitlines())
            known = self._rendered[language, view, bulk_id] = f"event: piece\n{lines}\n".encode()
        return known


def values(seen: Seen) -> dict[str, Any]:
    """What the templates show of it."""
    minutes = seen.minutes
    most = pictures.rounded_up(max((one.placed for one in minutes), default=0))
    slowest = pictures.rounded_up(max((one.seconds[2] for one in minutes if one.seconds), default=0))
    labels = [f"{clock_time(one.at)[11:16]} · {one.placed}" for one in minutes]
    newest = next((one for one in reversed(minutes) if one.seconds), None)
    return {
        "seen": seen,
        "placed": pictures.bars([float(one.placed) for one in minutes], labels, most),
        "most": most,
        "half": pictures.line([one.seconds[0] if one.seconds else None for one in minutes], slowest),
        "most_of_them": pictures.line([one.seconds[1] if one.seconds else None for one in minutes], slowest),
        "nearly_all": pictures.line([one.seconds[2] if one.seconds else None for one in minutes], slowest),
        "slowest": slowest,
        "in_the_hour": sum(one.placed for one in minutes),
        "newest": newest,
        "width": pictures.WIDTH,
        "height": pictures.HEIGHT,
    }
