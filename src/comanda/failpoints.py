"""Failpoints: the boundaries at which a process may be told to die, once. For crash tests; off otherwise.

Every commit and every call outside is a `Boundary`, made when its module is imported, so that the list of all of them
is the code's own. With `switch_on(folder)` a process dies (`os._exit`, no clean-up) right before or after a boundary
whose name stands in that folder as a file: `touch folder/orders.accept.before`. The file goes first, so one process
dies once. While they are off, a boundary costs one comparison.
"""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType

DIED = 86
"""The exit code of a process that died at a failpoint."""

_folder: Path | None = None
_boundaries: dict[str, "Boundary"] = {}


class Boundary:
    """A commit, or a call outside, by a name that is its own. As a context manager it stands around a call."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        if name in _boundaries:
            raise ValueError(f"two boundaries are called {name}")
        self.name = name
        _boundaries[name] = self

    def before(self, variants: Iterable[str] = ()) -> None:
        """The last moment at which nothing has happened. `variants`: what it is about, for crashes that choose."""
        if _folder is not None:
            _die_if_told(_folder, self.name, "before", variants)

    def after(self, variants: Iterable[str] = ()) -> None:
        """It has happened, and nobody in this process knows it yet."""
        if _folder is not None:
            _die_if_told(_folder, self.name, "after", variants)

    def __enter__(self) -> None:
        self.before()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.after()


def switch_on(folder: Path) -> None:
    """From now on this process dies where the folder says."""
    global _folder  # noqa: PLW0603 - one switch for the process
    folder.mkdir(parents=True, exist_ok=True)
    _folder = folder


def are_on() -> bool:
    return _folder is not None


def boundaries() -> Sequence[str]:
    """The names of all boundaries of the modules that have been imported."""
    return sorted(_boundaries)


def _die_if_told(folder: Path, name: str, moment: str, variants: Iterable[str]) -> None:
    for told in (f"{name}.{moment}", *(f"{variant}.{moment}" for variant in variants)):
        try:
            (folder / told).unlink()
        except FileNotFoundError:
            continue
        os.write(2, f'{{"level": "error", "message": "died at failpoint {told}"}}\n'.encode())
        os._exit(DIED)
