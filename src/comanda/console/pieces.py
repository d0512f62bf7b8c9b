"""The middle of a page that keeps itself up to date: rendered once for all who see the same."""

from typing import Any

from comanda.console import pictures
from comanda.console.pulse import Seen
from comanda.console.render import Language, Pages, clock_time

VIEWS = {"overview": "_overview.html", "queues": "_queues.html"}


class Pieces:
    """As server-sent events. Nothing in them depends on who looks, but for the language."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._seen: Seen | None = None
        self._rendered: dict[tuple[Language, str], bytes] = {}

    def of(self, seen: Seen, language: Language, view: str) -> bytes:
        """One of `VIEWS`, as it was seen."""
        if seen is not self._seen:
            self._seen, self._rendered = seen, {}
        known = self._rendered.get((language, view))
        if known is None:
            piece = self._pages.render(language, VIEWS[view], values(seen))
            lines = "".join(f"data: {line}\n" for line in piece.splitlines())
            known = self._rendered[language, view] = f"event: piece\n{lines}\n".encode()
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
