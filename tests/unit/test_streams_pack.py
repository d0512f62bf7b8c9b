"""Messages of the queues: packs of saga ids, and whatever else somebody may have put there."""

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from comanda.messaging.streams import pack, stream_of, unpack


@given(st.lists(st.uuids(), max_size=350))
def test_what_is_packed_is_unpacked_in_order(ids: list[UUID]) -> None:
    bodies = pack(ids)
    assert [one for body in bodies for one in unpack({b"ids": body}) or []] == ids
    assert len(bodies) == -(-len(ids) // 100)
    assert all(len(body) <= 1600 for body in bodies)


@given(st.dictionaries(st.binary(max_size=4), st.binary(max_size=40)))
def test_whatever_is_no_pack_is_unreadable_and_raises_nothing(body: dict[bytes, bytes]) -> None:
    assert unpack(body) is None or len(body[b"ids"]) % 16 == 0


def test_a_pack_cut_short_is_unreadable() -> None:
    (body,) = pack([UUID(int=1), UUID(int=2)])
    assert unpack({b"ids": body[:-1]}) is None
    assert unpack({b"ids": b""}) is None
    assert unpack({}) is None


def test_the_streams_of_a_queue_share_a_hash_tag() -> None:
    assert [stream_of("order-processing", priority) for priority in (0, 2)] == [
        "comanda:{order-processing}:0",
        "comanda:{order-processing}:2",
    ]
