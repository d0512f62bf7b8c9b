"""Tokens and passwords, without a server."""

from datetime import timedelta
from uuid import uuid4

import pytest

from comanda.accounts import passwords, tokens
from comanda.accounts.tokens import Bearer
from comanda.errors import ConfigurationFault

KEY = "k" * 32


def test_a_short_key_is_refused() -> None:
    with pytest.raises(ConfigurationFault):
        Bearer("k" * 31)
    with pytest.raises(ConfigurationFault):
        Bearer("")


def test_a_token_says_what_it_was_issued_with() -> None:
    account_id = uuid4()
    bearer = Bearer(KEY)
    token = bearer.issue(account_id, "operator", timedelta(minutes=15))
    claims = bearer.claims(b"Bearer " + token.encode())
    assert claims is not None
    assert (claims.account_id, claims.role) == (account_id, "operator")


def test_a_token_that_comes_again_is_not_decoded_again() -> None:
    bearer = Bearer(KEY)
    header = b"Bearer " + bearer.issue(uuid4(), "customer", timedelta(minutes=15)).encode()
    assert bearer.claims(header) is bearer.claims(header)


def test_no_header_is_nobody() -> None:
    bearer = Bearer(KEY)
    for header in (None, b"", b"Bearer", b"Bearer ", b"Bearer \xff", b"Bearer a.b.c", b"Basic YTpi"):
        assert bearer.claims(header) is None


def test_the_cache_stays_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "_CACHED", 3)
    bearer = Bearer(KEY)
    for _ in range(10):
        header = b"Bearer " + bearer.issue(uuid4(), "customer", timedelta(minutes=15)).encode()
        assert bearer.claims(header) is not None
    assert len(bearer._known) == 3


async def test_a_password_matches_its_own_hash_only() -> None:
    kept = await passwords.hashed("correct horse")
    assert kept.startswith("$argon2id$")
    assert await passwords.matches("correct horse", kept)
    assert not await passwords.matches("correct horsf", kept)
    assert not await passwords.matches("correct horse", None)
    assert not await passwords.matches("correct horse", "no hash")
