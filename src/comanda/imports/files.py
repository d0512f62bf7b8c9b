"""Files of lines, CSV or NDJSON: pure rules over bytes. Whatever can't be read is one line's trouble, not the file's.

A file is read window by window, each from where the last one ended, so that nobody has to hold all of it.
"""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from comanda.sentences import Sentence

Format = Literal["csv", "ndjson"]

MOST_OF_LINE = 128 * 1024
"""Bytes of one line of a file."""
MOST_OF_RECORD = 256 * 1024
"""Bytes of a record, whose quoted cells may hold line breaks."""
_MOST_DIGITS = 25  # of an integer: as in bodies
_MOST_JOINED = 100
_MOST_SHOWN = 2000
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Malformed:
    """It can't be read, and why."""

    code: Literal["MALFORMED_LINE", "INVALID_ENCODING"]
    message: str


@dataclass(frozen=True, slots=True)
class Line:
    """`number`: where it begins, from 1. `text`: as it may be shown and stored, cut where it is very long."""

    number: int
    text: str
    values: Mapping[str, Any] | Malformed


@dataclass(frozen=True, slots=True)
class Read:
    """`size`: bytes that were read; `following`: the number of the line after them."""

    lines: Sequence[Line]
    size: int
    following: int


@dataclass(frozen=True, slots=True)
class Head:
    """Where the lines begin, and, of CSV, what the columns are called."""

    columns: Sequence[str]
    size: int
    following: int


def head(begin: bytes, format_: Format, *, is_whole: bool) -> Head | Malformed:
    """What a file begins with: perhaps a byte order mark; of CSV, its header.

    Args:
        begin: of the file, `MOST_OF_RECORD` at the least where that is not all of it.
        format_: how to read it.
        is_whole: there is nothing after it.
    """
    size = len(_BOM) if begin.startswith(_BOM) else 0
    if format_ == "ndjson":
        return Head((), size, 1)
    source = _Physical(begin, at=size, number=1, is_last=is_whole)
    cells: list[str] = []
    try:
        for cells in csv.reader(source, strict=True):
            if cells:
                break
    except (csv.Error, _TooLong) as wrong:
        return Malformed("MALFORMED_LINE", Sentence("The header can't be read: {reason}", reason=wrong))
    if not cells:
        return Malformed("MALFORMED_LINE", Sentence("There is no header"))
    if any(_is_undecoded(cell) for cell in cells):
        return Malformed("INVALID_ENCODING", Sentence("The header is not UTF-8"))
    return Head([cell.strip() for cell in cells], source.at, source.number)


def read(window: bytes, format_: Format, columns: Sequence[str], *, number: int, is_last: bool, most: int) -> Read:
    """The next lines, empty ones left out.

    Args:
        window: from the first byte of a line on, `MOST_OF_RECORD` at the least where that is not the rest of the file.
        format_: how to read it.
        columns: what the cells of CSV are called. Empty cells are left out.
        number: of the first line.
        is_last: the window ends with the file.
        most: lines at the most.
    """
    source = _Physical(window, at=0, number=number, is_last=is_last)
    found = _csv(source, columns) if format_ == "csv" else _ndjson(source)
    lines: list[Line] = []
    size, following = 0, number
    for line in found:
        if line is not None:
            lines.append(line)
        size, following = source.at, source.number
        if len(lines) == most:
            break
    return Read(lines, size, following)


class _TooLong(Exception):
    """A quoted cell goes on and on: most likely nobody meant to open it."""


class _Physical:
    """Lines as they lie in the file, with their ends; undecodable bytes as lone surrogates.

    `is_cut`: what follows is not in the window.
    """

    def __init__(self, window: bytes, *, at: int, number: int, is_last: bool) -> None:
        self._window = window
        self._is_last = is_last
        self._begin, self._first = at, number
        self.at = at
        self.number = number
        self.is_cut = False

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if self.at == len(self._window):
            self.is_cut = not self._is_last
            raise StopIteration
        if self.number - self._first == _MOST_JOINED or self.at - self._begin > MOST_OF_RECORD - MOST_OF_LINE:
            raise _TooLong("a quoted cell does not end")
        end = self._window.find(b"\n", self.at) + 1
        if end == 0:
            if not self._is_last:
                self.is_cut = True
                raise StopIteration
            end = len(self._window)
        line = self._window[self.at : end]
        self.at, self.number = end, self.number + 1
        return line.decode(errors="surrogateescape")

    def begin(self) -> None:
        """A record begins here."""
        self._begin, self._first = self.at, self.number

    def back_to_second_line(self) -> None:
        """Of the record that was begun only the first line counts."""
        end = self._window.find(b"\n", self._begin) + 1
        self.at, self.number = end or len(self._window), self._first + 1

    def line(self, values: Mapping[str, Any] | Malformed) -> Line:
        """The record that was begun and ends here."""
        text = self._window[self._begin : min(self.at, self._begin + 4 * _MOST_SHOWN)].decode(errors="replace")
        return Line(self._first, text.rstrip("\r\n").replace("\0", "\ufffd")[:_MOST_SHOWN], values)


def _csv(source: _Physical, columns: Sequence[str]) -> Iterator[Line | None]:
    reader = csv.reader(source, strict=True)
    while True:
        source.begin()
        try:
            cells = next(reader)
        except StopIteration:
            return
        except (csv.Error, _TooLong) as wrong:
            if source.is_cut:
                return
            source.back_to_second_line()
            reader = csv.reader(source, strict=True)
            yield source.line(Malformed("MALFORMED_LINE", f"It is no CSV: {wrong}"))
            continue
        yield source.line(_cells(cells, columns)) if cells else None


def _cells(cells: Sequence[str], columns: Sequence[str]) -> Mapping[str, Any] | Malformed:
    if any(_is_undecoded(cell) for cell in cells):
        return Malformed("INVALID_ENCODING", "It is not UTF-8")
    if len(cells) != len(columns):
        return Malformed("MALFORMED_LINE", f"It has {len(cells)} cells, the header {len(columns)}")
    return {column: cell for column, cell in zip(columns, cells, strict=True) if cell}


def _ndjson(source: _Physical) -> Iterator[Line | None]:
    while True:
        source.begin()
        try:
            text = next(source)
        except StopIteration:
            return
        yield source.line(_object_of(text)) if text.strip() else None


def _object_of(text: str) -> Mapping[str, Any] | Malformed:
    if _is_undecoded(text):
        return Malformed("INVALID_ENCODING", "It is not UTF-8")
    try:
        value = json_of(text)
    except ValueError as wrong:
        return Malformed("MALFORMED_LINE", f"It is no JSON: {wrong}")
    return value if isinstance(value, dict) else Malformed("MALFORMED_LINE", "It is no JSON object")


def json_of(text: str) -> Any:
    """JSON, and nothing that only looks like it.

    Raises:
        ValueError: a name stands twice, a number is none, it is nested too deeply, or it is no JSON at all.
    """
    try:
        return json.loads(text, object_pairs_hook=_pairs, parse_int=_integer, parse_constant=_constant)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _integer(text: str) -> int:
    if len(text) > _MOST_DIGITS:
        raise ValueError("a number has too many digits")
    return int(text)


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a name stands twice in one object")
    return value


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is no number")


def _is_undecoded(text: str) -> bool:
    """It holds bytes that were no UTF-8."""
    return not text.isascii() and any("\udc80" <= letter <= "\udcff" for letter in text)
