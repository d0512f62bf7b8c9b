"""Traces, up to whoever exports them."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from comanda import telemetry, tracing

pytest.importorskip("opentelemetry.sdk.trace", reason="comanda[otel]")
pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="comanda[otel]")

ON = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
OTHER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Told:
    """What was exported."""

    def __init__(self, exporter: Any) -> None:
        self._exporter = exporter

    def spans(self) -> dict[str, Any]:
        assert tracing._sdk is not None
        tracing._sdk._provider.force_flush()
        return {span.name: span for span in self._exporter.get_finished_spans()}


@pytest.fixture
def told() -> Iterator[Told]:
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter  # noqa: PLC0415

    exporter = InMemorySpanExporter()
    end = tracing.switch_on("tests", ON, exporter=exporter)
    yield Told(exporter)
    end()
    assert not tracing.is_on()


def sent(traceparent: str) -> list[tuple[bytes, bytes]]:
    return [(b"host", b"shop"), (b"traceparent", traceparent.encode())]


@pytest.mark.parametrize(
    "environment", [{}, {**ON, "OTEL_SDK_DISABLED": "true"}, {**ON, "OTEL_TRACES_EXPORTER": "none"}]
)
def test_off_nothing_is_told_and_nothing_carried(environment: dict[str, str]) -> None:
    end = tracing.switch_on("tests", environment)
    assert not tracing.is_on()
    assert tracing.request("POST", sent(PARENT)) is None
    assert tracing.named(PARENT, "attempt", 1) is None
    tracing.tell("step", PARENT, began=0)
    with tracing.within(PARENT), tracing.outside("call") as call:
        assert call.headers == {}
    end()


def test_a_request_goes_on_with_the_trace_of_who_sent_it(told: Told) -> None:
    request = tracing.request("POST", sent(PARENT))
    assert request is not None
    assert request.traceparent[:36] == PARENT[:36]
    request.end("POST", "/api/v1/orders", 202, "ticket-1")
    span = told.spans()["POST /api/v1/orders"]
    assert f"{span.parent.span_id:016x}" == PARENT[36:52]
    assert span.attributes["http.response.status_code"] == 202


@pytest.mark.parametrize("nonsense", ["", "00-zz-00-01", f"00-{'0' * 32}-00f067aa0ba902b7-01", "x" * 4096])
def test_a_traceparent_that_is_none_begins_a_trace_of_its_own(told: Told, nonsense: str) -> None:
    request = tracing.request("GET", sent(nonsense))
    assert request is not None
    request.end("GET", "/nonsense", 200, "c")
    assert told.spans()["GET /nonsense"].parent is None


def test_chance_decides_and_who_sent_it_overrules_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter  # noqa: PLC0415

    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0.1")
    end = tracing.switch_on("tests", ON, exporter=InMemorySpanExporter())
    try:
        kept = [one for one in (tracing.request("POST", []) for _ in range(5000)) if one is not None]
        assert 350 < len(kept) < 650
        assert len({one.traceparent[3:35] for one in kept}) == len(kept)
        assert tracing.request("POST", sent(PARENT)) is not None
        assert tracing.request("POST", sent(PARENT[:-1] + "0")) is None
    finally:
        end()


def test_a_call_stands_below_an_attempt_that_is_told_later(told: Told) -> None:
    names = (uuid4(), "process_payment", "forward", datetime.now(UTC).timestamp(), 2)
    attempt = tracing.named(PARENT, *names)
    with telemetry.correlated("ticket-1"), tracing.within(attempt), tracing.outside("POST /charges") as call:
        call.answered(503)
    assert tracing.current() is None
    before = tracing.named(PARENT, *names[:-1], 1)
    assert before is not None
    tracing.tell("order.process_payment", PARENT, names=names, links=[before], began=1.0, ended=2.5, error="failed")
    spans = told.spans()
    span, below = spans["order.process_payment"], spans["POST /charges"]
    assert below.parent.span_id == span.context.span_id
    assert below.context.trace_id == span.context.trace_id == int(PARENT[3:35], 16)
    assert call.headers == {"traceparent": f"{PARENT[:36]}{below.context.span_id:016x}-01"}
    assert [f"{link.context.span_id:016x}" for link in span.links] == [before[36:52]]
    assert span.end_time - span.start_time == 1_500_000_000
    assert not span.status.is_ok
    assert not below.status.is_ok


def test_a_call_that_raised_is_told_as_failed(told: Told) -> None:
    with pytest.raises(TimeoutError), tracing.within(PARENT), tracing.outside("POST /charges"):
        raise TimeoutError
    assert told.spans()["POST /charges"].attributes["error.type"] == "TimeoutError"


def test_work_for_many_is_linked_to_each_of_their_traces(told: Told) -> None:
    tracing.tell_together("alone", [None, PARENT, None], began=0, size=3, kind="CONSUMER")
    tracing.tell_together("together", [PARENT, None, OTHER], began=0, size=3, kind="CONSUMER")
    spans = told.spans()
    assert spans.keys() == {"together"}
    assert [f"{link.context.trace_id:032x}" for link in spans["together"].links] == [OTHER[3:35]]
    assert spans["together"].attributes["messaging.batch.message_count"] == 3


def test_events_and_messages_find_the_trace_of_what_they_are_about(told: Told) -> None:
    order, refund = uuid4(), uuid4()
    tracing.carry({refund: OTHER})
    assert told.spans() == {}
    assert tracing.of(order, refund) == OTHER
    assert tracing.of(order, None) is None
    with tracing.within(PARENT):
        assert tracing.of(order) == PARENT
    tracing.carry({})
