"""PostgreSQL's protocol, as far as one must follow it to know when a client's work is committed.

Sans I/O: bytes go in as they come, cut anywhere; nothing is changed, only told apart.
"""

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto
from struct import Struct

_LENGTH = Struct("!I")
_STARTUP = Struct("!II")
_CANCEL, _SSL, _GSS = 80877102, 80877103, 80877104
_UNTYPED = 0

_COMMENT = re.compile(rb"--[^\n]*|/\*.*?\*/", re.DOTALL)
_WRITES = re.compile(
    rb"\bINSERT\s+INTO\b|\bDELETE\s+FROM\b|\bMERGE\s+INTO\b|\bTRUNCATE\b|\bCOPY\b.*\bFROM\s+STDIN\b"
    rb"|(?<!FOR )(?<!KEY )\bUPDATE\s+(?:ONLY\s+)?[\w\".]+\s",
    re.IGNORECASE | re.DOTALL,
)
_COMMITS = re.compile(rb"(?:^|;)\s*(?:COMMIT|END)\b", re.IGNORECASE)

_PARSE, _BIND, _EXECUTE, _QUERY, _SYNC, _CLOSE, _CALL = b"PBEQSCF"
_COMPLETE, _ERROR, _READY, _NOTIFICATION, _COPY_IN = b"CEZAG"
_IDLE = ord("I")
_ACCEPTED = b"SG"  # the answer to a wish for encryption


class Part(Enum):
    """What a stretch of the server's bytes is."""

    PLAIN = auto()
    NOTIFICATION = auto()
    # Of the answer to a statement at whose end the server commits, unless it fails.
    MAY_COMMIT = auto()
    # The last message of such an answer: the server has committed, the client learns it from this.
    COMMITTED = auto()


Piece = tuple[Part, bytes | bytearray]


@dataclass(frozen=True, slots=True)
class Statement:
    """Whether it writes, and whether it ends a transaction well."""

    writes: bool
    commits: bool

    @classmethod
    def of(cls, text: bytes) -> "Statement":
        text = _COMMENT.sub(b" ", text)
        return cls(writes=_WRITES.search(text) is not None, commits=_COMMITS.search(text) is not None)


_NO_STATEMENT = Statement(writes=False, commits=False)


@dataclass(slots=True)
class _Request:
    """Everything that the server answers with one ReadyForQuery."""

    writes: bool = False
    commits: bool = False

    def add(self, statement: Statement) -> None:
        self.writes = self.writes or statement.writes
        self.commits = self.commits or statement.commits


_NO_REQUEST = _Request()


class _Messages:
    """Cuts one direction into messages. Typed ones carry a letter; those before the start-up do not."""

    def __init__(self, *, is_typed: bool) -> None:
        self.is_typed = is_typed
        self.is_opaque = False  # encrypted, or nothing that we know
        self.bare = 0  # single bytes that come next, without a length
        self.rest: bytes | bytearray = b""

    def cut(self, chunk: bytes) -> tuple[bytes | bytearray, Iterator[tuple[int, int, int]]]:
        """Buffer and the messages in it as (type, start, end). To be read to its end; then the rest is kept."""
        if not self.rest:
            return chunk, self._marks(chunk)
        data = self.rest if isinstance(self.rest, bytearray) else bytearray(self.rest)
        data += chunk
        return data, self._marks(data)

    def _marks(self, data: bytes | bytearray) -> Iterator[tuple[int, int, int]]:
        start, size = 0, len(data)
        while start < size:
            if self.is_opaque:
                end = size
                kind = _UNTYPED
            elif self.bare:
                self.bare -= 1
                kind, end = data[start], start + 1
                self.is_opaque = kind in _ACCEPTED
            else:
                header = 1 if self.is_typed else 0
                if size - start < header + 4:
                    break
                kind = data[start] if header else _UNTYPED
                end = start + header + max(4, _LENGTH.unpack_from(data, start + header)[0])
                if end > size:
                    break
            yield kind, start, end
            start = end
        self.rest = data if start == 0 else data[start:]
        if start == size:
            self.rest = b""


class Session:
    """One connection, both ways. A client's chunk is to be told before it is sent on."""

    def __init__(self) -> None:
        self._sent = _Messages(is_typed=False)
        self._answered = _Messages(is_typed=True)
        self._statements: dict[bytes, Statement] = {}
        self._portals: dict[bytes, Statement] = {}
        self._requests: deque[_Request] = deque()
        self._request = _Request()  # the one that is not complete yet
        self._is_idle = False  # outside a transaction, as the server said last
        self._has_written = False  # inside the transaction
        self._has_failed = False
        self._is_rollback = False

    def client_sent(self, chunk: bytes) -> None:
        data, messages = self._sent.cut(chunk)
        for kind, start, end in messages:
            if kind == _UNTYPED:
                if not self._sent.is_opaque:
                    self._start(data, start, end)
            elif kind in (_PARSE, _BIND, _EXECUTE, _QUERY, _SYNC, _CLOSE, _CALL):
                self._follow(kind, data, start + 5, end)

    def server_sent(self, chunk: bytes) -> list[Piece]:
        """Every whole message that there is now, in stretches; joined they are what the server sent."""
        data, messages = self._answered.cut(chunk)
        stretches: list[tuple[Part, int]] = []
        last = 0
        for kind, start, end in messages:
            part = Part.PLAIN if self._answered.is_opaque else self._part(kind, data, start)
            if stretches and stretches[-1][0] is part:
                stretches[-1] = (part, end)
            else:
                stretches.append((part, end))
            last = end
        self._sent.is_opaque = self._sent.is_opaque or self._answered.is_opaque
        if len(stretches) == 1 and last == len(data):
            return [(stretches[0][0], data)]
        pieces: list[Piece] = []
        start = 0
        for part, end in stretches:
            pieces.append((part, data[start:end]))
            start = end
        return pieces

    def server_ended(self) -> bytes | bytearray:
        """What is left of a message that will never be whole."""
        rest, self._answered.rest = self._answered.rest, b""
        return rest

    def _start(self, data: bytes | bytearray, start: int, end: int) -> None:
        code = _STARTUP.unpack_from(data, start)[1] if end - start >= _STARTUP.size else 0
        if code in (_SSL, _GSS):
            self._answered.bare += 1
        elif code == _CANCEL:
            self._sent.is_opaque = self._answered.is_opaque = True
        else:
            self._sent.is_typed = True
            self._requests.append(_Request())  # the server says too when it is ready for the first

    def _follow(self, kind: int, data: bytes | bytearray, start: int, end: int) -> None:
        if kind == _PARSE:
            name, start = _string(data, start, end)
            self._statements[name] = Statement.of(_string(data, start, end)[0])
        elif kind == _BIND:
            portal, start = _string(data, start, end)
            self._portals[portal] = self._statements.get(_string(data, start, end)[0], _NO_STATEMENT)
        elif kind == _EXECUTE:
            self._request.add(self._portals.get(_string(data, start, end)[0], _NO_STATEMENT))
        elif kind == _CLOSE:
            named = self._statements if data[start : start + 1] == b"S" else self._portals
            named.pop(_string(data, start + 1, end)[0], None)
        else:
            if kind == _QUERY:
                self._request.add(Statement.of(_string(data, start, end)[0]))
            self._requests.append(self._request)
            self._request = _Request()

    def _part(self, kind: int, data: bytes | bytearray, start: int) -> Part:
        # Before its end is on its way a request commits nothing, and a client may wait for a part of the answer.
        request = self._requests[0] if self._requests else _NO_REQUEST
        may_commit = request.writes if self._is_idle else request.commits and (self._has_written or request.writes)
        if kind == _READY:
            return self._ready(request, data[start + 5], may_commit=may_commit)
        if kind == _ERROR:
            self._has_failed = True
        elif kind == _COMPLETE:
            self._is_rollback = data.startswith(b"ROLLBACK", start + 5)
        elif kind == _NOTIFICATION:
            return Part.NOTIFICATION
        elif kind == _COPY_IN:  # the server waits for the client
            return Part.PLAIN
        return Part.MAY_COMMIT if may_commit else Part.PLAIN

    def _ready(self, request: _Request, status: int, *, may_commit: bool) -> Part:
        if self._requests:
            self._requests.popleft()
        self._is_idle = status == _IDLE
        has_committed = self._is_idle and may_commit and not self._has_failed and not self._is_rollback
        self._has_written = not self._is_idle and (self._has_written or request.writes)
        self._has_failed = self._is_rollback = False
        return Part.COMMITTED if has_committed else Part.PLAIN


def _string(data: bytes | bytearray, start: int, end: int) -> tuple[bytes, int]:
    """The text that ends with a zero, and where the next one begins."""
    zero = data.find(b"\0", start, end)
    zero = end if zero < 0 else zero
    return bytes(data[start:zero]), zero + 1
