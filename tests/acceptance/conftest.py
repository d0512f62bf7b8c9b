"""One Comanda for the tests that don't hurt it."""

from collections.abc import AsyncIterator, Iterator

import pytest

import servers
from up import Up, Visitor


@pytest.fixture(scope="session")
def _shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with servers.settings_for_up(is_shared=True) as urls:
        up = Up(tmp_path_factory.mktemp("up") / "data", "--json", PAYMENT_PATIENCE_SECONDS="6", **urls)
        try:
            up.wait_until_ready()
            yield up
        finally:
            up.terminate()


@pytest.fixture
def urls() -> Iterator[dict[str, str]]:
    """Settings of an instance of the test's own: empty, or servers that were given from outside."""
    with servers.settings_for_up() as found:
        yield dict(found)


@pytest.fixture
async def up(_shared: Up) -> AsyncIterator[Up]:
    """A running Comanda that other tests use too: with a fast gateway that never fails by chance."""
    yield _shared
    await _shared.leave()


@pytest.fixture
async def admin(up: Up) -> Visitor:
    return await up.signed_in()
