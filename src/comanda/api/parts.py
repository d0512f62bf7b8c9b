"""What the routes are given: nothing of it is looked up elsewhere."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated

from fastapi import Depends, Request

from comanda.accounts.tokens import Bearer
from comanda.api.feed import Feed
from comanda.api.lists import Lists
from comanda.assembly import Assembly
from comanda.catalog.cache import Catalogue
from comanda.catalog.pages import Pages
from comanda.db import Database
from comanda.saga.settling import Settling
from comanda.settings import Settings


@dataclass(frozen=True)
class Parts:
    """The space of `data_dir` is shown; `settling` decides what becomes of orders that are cancelled.

    `is_draining` tells that the process is about to stop.
    """

    assembly: Assembly
    bearer: Bearer
    catalogue: Catalogue
    is_draining: Callable[[], bool]
    data_dir: Path
    settling: Settling
    pages: Pages
    feed: Feed
    lists: Lists

    @property
    def database(self) -> Database:
        return self.assembly.database

    @property
    def settings(self) -> Settings:
        return self.assembly.settings

    @property
    def access_lifetime(self) -> timedelta:
        return timedelta(seconds=self.settings.access_token_seconds)

    @property
    def refresh_lifetime(self) -> timedelta:
        return timedelta(seconds=self.settings.refresh_token_seconds)


async def _parts(request: Request) -> Parts:
    parts: Parts = request.app.state.parts
    return parts


Given = Annotated[Parts, Depends(_parts)]
