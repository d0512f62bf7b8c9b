"""Keys and fingerprints."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comanda.idempotency.model import fingerprint, is_key


@given(st.binary(), st.binary())
def test_a_fingerprint_is_of_the_body_and_nothing_else(one: bytes, other: bytes) -> None:
    assert (fingerprint(one) == fingerprint(other)) == (one == other)
    assert len(fingerprint(one)) == 16


def test_a_fingerprint_is_stored_so_it_never_changes() -> None:
    assert fingerprint(b'{"items":[]}').hex() == "05eb06efe9d487e3e0e8ace7cc9ee68e"


@pytest.mark.parametrize("key", ["a", "x" * 255, "order 7/a", "~!@#"])
def test_printable_ascii_is_a_key(key: str) -> None:
    assert is_key(key)


@pytest.mark.parametrize("key", ["", "x" * 256, "ключ", "a\n", "a\x00", "a\x7f", "é"])
def test_anything_else_is_none(key: str) -> None:
    assert not is_key(key)
