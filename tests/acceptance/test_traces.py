"""Traces as a collector gets them: one leads from the request to the gateway's call, the mail and the webhook."""

import asyncio
import gzip
import http.server
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from up import basket, eventually, lines_of, running

service = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2", reason="comanda[otel]")
pytest.importorskip("opentelemetry.sdk.trace", reason="comanda[otel]")

MINE = "4bf92f3577b34da6a3ce929d0e0e4736"  # pragma: allowlist secret
ABOVE = "00f067aa0ba902b7"
Heard = list[tuple[str, str, dict[str, str], bytes]]


class Party:
    """Somebody outside, who hears requests and answers each. `heard`: method, path, headers, body."""

    def __init__(self, answer: Callable[[str, str, int], tuple[int, Any]]) -> None:
        self.heard: Heard = []
        party = self

        class Answering(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.do_POST()

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                party.heard.append((self.command, self.path, headers, body))
                status, said = answer(self.command, self.path, len(party.heard))
                written = json.dumps(said).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(written)))
                self.end_headers()
                self.wfile.write(written)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002, ARG002 - as in the library
                return

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answering)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def gateway(method: str, path: str, count: int) -> tuple[int, Any]:
    """Too busy for the first charge, then takes it."""
    if path.startswith("/ledger"):
        return 200, []
    if method == "GET":
        return 404, {"code": "UNKNOWN_KEY"}
    return (503, {"code": "BUSY"}) if count == 1 else (200, {"id": "ch_1"})


@pytest.fixture
def parties() -> Iterator[dict[str, Party]]:
    found = {
        "collector": Party(lambda *_: (200, {})),
        "gateway": Party(gateway),
        "receiver": Party(lambda *_: (200, {})),
    }
    yield found
    for one in found.values():
        one.close()


def spans(collector: Party) -> list[Any]:
    """What it was told, with `about` of who told it."""
    found = []
    for _, path, headers, body in list(collector.heard):
        assert path == "/v1/traces"
        told = service.ExportTraceServiceRequest()
        told.ParseFromString(gzip.decompress(body) if headers.get("content-encoding") == "gzip" else body)
        for resource in told.resource_spans:
            about = {one.key: one.value.string_value for one in resource.resource.attributes}
            assert about["service.name"] == "comanda"
            found += [(about["service.instance.id"], span) for scope in resource.scope_spans for span in scope.spans]
    return found


async def test_one_trace_leads_from_the_request_to_gateway_mail_and_webhook(
    urls: dict[str, str], parties: dict[str, Party], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    collector, charged, hooked = parties["collector"], parties["gateway"], parties["receiver"]
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_always_off")  # but who sends a traceparent decides
    async with running(
        tmp_path / "data", "--json", GATEWAY_URL=charged.url, LOG_LEVEL="debug", CHECK_SECONDS="0", **urls
    ) as up:
        admin = await up.signed_in()
        product = await admin.product()
        await admin.made("/webhooks", {"url": hooked.url, "eventTypes": ["OrderConfirmed"]})
        untraced = await admin.order(product)
        await admin.ended(untraced)
        assert "traceparent" not in charged.heard[0][2]
        charged.heard.clear()
        reply = await admin.ask("POST", "/orders", basket(product), traceparent=f"00-{MINE}-{ABOVE}-01")
        order_id = reply.body["orderId"]
        await admin.ended(order_id)
        mine: dict[str, Any] = {}
        wanted = {"order.process_payment", "notification.deliver", "mailbox send", "webhook.deliver", "POST webhook"}

        def are_told() -> bool:
            mine.clear()
            for process, span in spans(collector):
                mine.setdefault(span.name, []).append((process, span))
            return wanted <= mine.keys() and {"outbox publish", "POST /api/v1/orders"} <= mine.keys()

        await eventually(are_told)
        logged = lines_of(up.printed())

    everything = [span for told in mine.values() for _, span in told]
    assert {span.trace_id.hex() for span in everything} == {MINE}, "of the others nothing was told"
    by_id = {span.span_id.hex(): span for span in everything}
    assert len(by_id) == len(everything)

    ((told_by, request),) = mine["POST /api/v1/orders"]
    assert told_by == "api-1"
    assert request.parent_span_id.hex() == ABOVE
    assert mine["outbox publish"][0][0] == "relay"
    steps = {name for name in mine if name.startswith("order.")}
    assert steps == {
        f"order.{step}"
        for step in (
            "verify_stock", "reserve_inventory", "process_payment", "confirm_reservation", "send_confirmation",
            "complete_order",
        )
    }  # fmt: skip
    # The first attempt failed, the second points at it; each call stands below its own attempt.
    first, second = sorted(
        (span for _, span in mine["order.process_payment"]), key=lambda span: span.end_time_unix_nano
    )
    assert [link.span_id.hex() for link in second.links] == [first.span_id.hex()]
    assert (first.status.code, second.status.code) == (2, 0)
    assert first.parent_span_id == second.parent_span_id == request.span_id
    calls = {path: headers["traceparent"] for _, path, headers, _ in charged.heard if not path.startswith("/ledger")}
    assert {path.partition("?")[0] for path in calls} == {"/charges"}
    for _, path, headers, _ in charged.heard:
        call = by_id[headers["traceparent"].split("-")[2]]
        assert headers["traceparent"] == f"00-{MINE}-{call.span_id.hex()}-01"
        attempt = by_id[call.parent_span_id.hex()]
        assert attempt.name == "order.process_payment"
        assert attempt.start_time_unix_nano <= call.start_time_unix_nano
        assert call.end_time_unix_nano <= attempt.end_time_unix_nano, path
    ((_, mail),) = mine["mailbox send"]
    assert by_id[mail.parent_span_id.hex()].name == "notification.deliver"
    (hook,) = [headers for _, _, headers, body in hooked.heard if order_id in body.decode()]
    assert by_id[hook["traceparent"].split("-")[2]].name == "POST webhook"
    ended = [line for line in logged if line.get("orderId") == order_id]
    assert [line["traceId"] for line in ended] == [MINE]


async def test_a_trace_goes_on_after_a_restart_of_everything(
    urls: dict[str, str], parties: dict[str, Party], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who charges it in the end had not been born when it was placed; his attempt points at the one before."""
    collector, is_back = parties["collector"], threading.Event()
    busy = Party(lambda method, path, _: gateway(method, path, 2 if is_back.is_set() else 1))
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_always_off")

    def attempts() -> list[Any]:
        found = [span for _, span in spans(collector) if span.name == "order.process_payment"]
        return sorted(found, key=lambda span: span.end_time_unix_nano)

    try:
        async with running(tmp_path / "data", "--json", GATEWAY_URL=busy.url, CHECK_SECONDS="0", **urls) as up:
            admin = await up.signed_in()
            product = await admin.product()
            reply = await admin.ask("POST", "/orders", basket(product), traceparent=f"00-{MINE}-{ABOVE}-01")
            assert reply.status == 202
            await eventually(attempts)
            assert await up.stop() == 0
            before = len(attempts())
            is_back.set()
            await asyncio.to_thread(up.again)
            admin = await up.signed_in()
            await admin.ended(reply.body["orderId"])

            def is_told() -> bool:
                return "mailbox send" in {span.name for _, span in spans(collector)}

            await eventually(is_told)
    finally:
        busy.close()
    assert {span.trace_id.hex() for _, span in spans(collector)} == {MINE}
    calls = [headers["traceparent"] for _, path, headers, _ in busy.heard if path.startswith("/charges")]
    assert len(calls) > before
    assert all(call.startswith(f"00-{MINE}-") for call in calls)
    tried = attempts()
    assert len(tried) > before >= 1
    assert [span.links[0].span_id for span in tried[1:]] == [span.span_id for span in tried[:-1]]
