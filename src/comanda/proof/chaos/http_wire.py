"""HTTP/1.1 requests as they stand on the wire, one after the other. Sans I/O."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus

_HEAD_END = b"\r\n\r\n"
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)[ \t]*(?=\r\n)", re.IGNORECASE)
_CODED = re.compile(rb"\r\ntransfer-encoding:", re.IGNORECASE)
_LONGEST_HEAD = 1 << 16


@dataclass(frozen=True, slots=True)
class Request:
    """One request, whole. `path` is without its query; both are empty where the bytes are no request we can read."""

    method: str
    path: str
    raw: bytes


class Requests:
    """Cuts what a client sends into requests. Bodies are counted by content-length.

    From a request whose body has no length in its head on, everything passes as it comes.
    """

    def __init__(self) -> None:
        self.rest = b""
        self._is_opaque = False

    def cut(self, chunk: bytes) -> Iterator[Request]:
        data = self.rest + chunk
        self.rest = b""
        while data:
            request, data = self._next(data)
            if request is None:
                self.rest = data
                return
            yield request

    def _next(self, data: bytes) -> tuple[Request | None, bytes]:
        head_end = -1 if self._is_opaque else data.find(_HEAD_END)
        if head_end < 0 and not self._is_opaque and len(data) < _LONGEST_HEAD:
            return None, data
        head = data[: head_end + 2]
        words = head.split(b"\r\n", 1)[0].split(b" ")
        if head_end < 0 or len(words) != 3 or _CODED.search(head):
            self._is_opaque = True
            return Request("", "", data), b""
        length = _LENGTH.search(head)
        end = head_end + len(_HEAD_END) + (int(length[1]) if length else 0)
        if len(data) < end:
            return None, data
        method, target = words[0].decode("latin-1"), words[1].decode("latin-1")
        return Request(method, target.split("?", 1)[0], data[:end]), data[end:]


def answer(status: int, body: bytes) -> bytes:
    """An answer with JSON, after which the connection can be used again."""
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "Injected"
    head = f"HTTP/1.1 {status} {phrase}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def status_of(head: bytes) -> int:
    """The status of an answer that begins so.

    Raises:
        ValueError: it is no answer.
    """
    words = head.split(b" ", 2)
    if len(words) < 2 or not words[0].startswith(b"HTTP/"):
        raise ValueError(f"{head[:40]!r} is no HTTP answer")
    return int(words[1])
