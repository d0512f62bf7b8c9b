"""Requests are found on the wire, wherever the network cuts their bytes."""

import pytest

from comanda.proof.chaos.http_wire import Request, Requests, answer, status_of

CHARGE = b'POST /charges?a=1 HTTP/1.1\r\nHost: x\r\nContent-Length: 13\r\nX: content-length: 9\r\n\r\n{"key":"\r\n\r\n"'
LOOK = b"GET /charges?key=a HTTP/1.1\r\nhost: x\r\n\r\n"
EMPTY = b"POST /void HTTP/1.1\r\ncontent-length:0\r\n\r\n"
EXPECTED = [
    Request("POST", "/charges", CHARGE),
    Request("GET", "/charges", LOOK),
    Request("POST", "/void", EMPTY),
    Request("GET", "/charges", LOOK),
]
SAID = CHARGE + LOOK + EMPTY + LOOK


def test_requests_that_come_together_are_told_apart() -> None:
    assert list(Requests().cut(SAID)) == EXPECTED


def test_it_does_not_matter_where_chunks_meet() -> None:
    for middle in range(1, len(SAID)):
        requests = Requests()
        assert [*requests.cut(SAID[:middle]), *requests.cut(SAID[middle:])] == EXPECTED
        assert requests.rest == b""
    requests = Requests()
    assert [one for byte in SAID for one in requests.cut(bytes([byte]))] == EXPECTED


def test_half_a_request_waits() -> None:
    requests = Requests()
    assert list(requests.cut(LOOK + CHARGE[:-1])) == EXPECTED[1:2]
    assert requests.rest == CHARGE[:-1]


@pytest.mark.parametrize(
    "said",
    [
        b"POST /charges HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        b"hello\r\n\r\n",
        b"x" * 100_000,
    ],
)
def test_what_can_not_be_counted_passes_as_it_comes(said: bytes) -> None:
    requests = Requests()
    assert list(requests.cut(said)) == [Request("", "", said)]
    assert list(requests.cut(LOOK)) == [Request("", "", LOOK)]


def test_an_answer_says_its_status() -> None:
    assert status_of(answer(503, b"{}")) == 503
    assert answer(599, b"{}").endswith(b"content-length: 2\r\n\r\n{}")
    with pytest.raises(ValueError, match="no HTTP"):
        status_of(b"SSH-2.0-x")
