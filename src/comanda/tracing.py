"""Traces by OpenTelemetry. Off, and nothing of its SDK imported, unless its standard variables say where they go.

A trace is carried as a `traceparent` (W3C Trace Context), and only one that is kept is carried at all: it is stored
with the order, its sagas and its events, and whoever works on them later, in whatever process, goes on with it. A
request that chance leaves out costs that throw of the dice and nothing after it.

What was committed for many is told afterwards, from the history of each. An attempt's span has an id that is made of
what names the attempt: a call outside stands below it before it is told, and the next attempt can point at it.
"""

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from hashlib import blake2b
from typing import TYPE_CHECKING, Literal
from uuid import UUID

import structlog

import comanda
from comanda import telemetry

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span, SpanContext, SpanKind

Kind = Literal["SERVER", "CLIENT", "PRODUCER", "CONSUMER", "INTERNAL"]
Attributes = Mapping[str, str | int | float | bool | Sequence[str]]

_log = telemetry.log("tracing")
_WHERE_TO = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_AT_THE_END = 5.0  # seconds that the last spans may take to go out
_carried: ContextVar[Mapping[UUID, str]] = ContextVar("comanda_traceparents", default={})  # noqa: B039 - never changed
_current: ContextVar[str | None] = ContextVar("comanda_traceparent", default=None)


_sdk: "_Sdk | None" = None


def switch_on(
    process: str, environment: Mapping[str, str] = os.environ, *, exporter: "SpanExporter | None" = None
) -> Callable[[], None]:
    """Send traces where the standard variables say; returns what ends that, with all that was told until then.

    Args:
        process: its name.
        environment: where the variables stand.
        exporter: takes them in place of OTLP over HTTP.
    """
    global _sdk  # noqa: PLW0603 - like the metrics: what is told of a process is told once
    is_disabled = environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    wanted = environment.get("OTEL_TRACES_EXPORTER", "otlp").strip().lower()
    if is_disabled or wanted == "none" or not any(environment.get(name) for name in _WHERE_TO):
        return lambda: None
    try:
        _sdk = _Sdk(process, environment, exporter)
    except ImportError as missing:
        # Who can't be watched works all the same.
        _log.warning("traces are off: install comanda[otel]", missing=missing.name)
        return lambda: None
    return _switch_off


def _switch_off() -> None:
    global _sdk
    ending, _sdk = _sdk, None
    if ending is not None:
        # A collector that does not answer keeps nobody from ending.
        flushing = threading.Thread(target=ending.close, name="last-spans", daemon=True)
        flushing.start()
        flushing.join(_AT_THE_END)


def is_on() -> bool:
    return _sdk is not None


def current() -> str | None:
    """The traceparent of what runs right now; None: it is not traced."""
    return _current.get()


def carry(traceparents: Mapping[UUID, str]) -> None:
    """Who works on these subjects from here on (orders, refunds, messages) is in their traces."""
    _carried.set(traceparents)


def of(*subjects: UUID | None) -> str | None:
    """The traceparent of the first of these subjects that is carried here; else of what runs right now."""
    if _sdk is None:
        return None
    carried = _carried.get()
    return next((carried[one] for one in subjects if one is not None and one in carried), None) or _current.get()


def trace_id(traceparent: str | None) -> str | None:
    """As it stands in logs."""
    return None if traceparent is None else traceparent[3:35]


def within(traceparent: str | None) -> AbstractContextManager[None]:
    """What runs in the block belongs to a trace: its lines of the log say so, its calls outside stand below it."""
    return nullcontext() if traceparent is None else _within(traceparent)


@contextmanager
def _within(traceparent: str) -> Iterator[None]:
    token = _current.set(traceparent)
    try:
        with structlog.contextvars.bound_contextvars(traceId=trace_id(traceparent)):
            yield
    finally:
        _current.reset(token)


class Request:
    """A request that is traced, from its first byte to its answer."""

    __slots__ = ("_span", "traceparent")

    def __init__(self, span: "Span") -> None:
        self._span = span
        context = span.get_span_context()
        self.traceparent = f"00-{context.trace_id:032x}-{context.span_id:016x}-01"

    def end(self, method: str, route: str, status: int, correlation_id: str) -> None:
        span = self._span
        span.update_name(f"{method} {route}")
        span.set_attributes(
            {
                "http.request.method": method,
                "http.route": route,
                "http.response.status_code": status,
                "comanda.correlation_id": correlation_id,
            }
        )
        if status // 100 == 5:  # what the caller did wrong is no fault of ours
            from opentelemetry.trace import StatusCode

            span.set_attribute("error.type", str(status))
            span.set_status(StatusCode.ERROR)
        span.end()


def request(method: str, headers: Iterable[tuple[bytes, bytes]]) -> Request | None:
    """Begin to trace a request; None: traces are off, or this one is not kept.

    Who sent it says whether it is, where its `traceparent` does (and the sampler heeds that), else chance.
    """
    sdk = _sdk
    if sdk is None:
        return None
    sent = {
        name.decode(): value.decode("latin-1") for name, value in headers if name in {b"traceparent", b"tracestate"}
    }
    if "traceparent" not in sent and not sdk.is_kept(method):
        return None
    span = sdk.begin(method, sent)
    return Request(span) if span.is_recording() else None


class Outside:
    """A call outside. `headers` carry the trace on: empty where there is none."""

    __slots__ = ("attributes", "error", "headers")

    def __init__(self, traceparent: str | None, attributes: dict[str, str | int]) -> None:
        self.headers = {} if traceparent is None else {"traceparent": traceparent}
        self.attributes = attributes
        self.error: str | None = None

    def answered(self, status: int) -> None:
        self.attributes["http.response.status_code"] = status
        if status // 100 in {4, 5}:  # for who asked, both are failures
            self.error = str(status)


@contextmanager
def outside(name: str, **attributes: str | int) -> Iterator[Outside]:
    """A call outside, below what runs right now; names of attributes have `__` for each dot."""
    sdk, parent = _sdk, _current.get()
    if sdk is None or parent is None:
        yield Outside(None, {})
        return
    began, own = time.time(), sdk.new_id()
    call = Outside(_joined(parent, own), {key.replace("__", "."): value for key, value in attributes.items()})
    try:
        yield call
    except BaseException as raised:
        call.error = type(raised).__name__
        raise
    finally:
        sdk.tell(
            name, parent, kind="CLIENT", own=own, attributes=call.attributes, began=began, ended=time.time(),
            error=call.error,
        )  # fmt: skip


def named(traceparent: str | None, *names: object) -> str | None:
    """The traceparent below which the calls of what bears these names stand; None: it is not traced."""
    if _sdk is None or traceparent is None:
        return None
    return _joined(traceparent, _id_of(names))


def tell(
    name: str,
    traceparent: str,
    *,
    kind: Kind = "INTERNAL",
    names: Sequence[object] | None = None,
    links: Iterable[str] = (),
    attributes: Attributes | None = None,
    began: float,
    ended: float | None = None,
    error: str | None = None,
) -> None:
    """Something that is over. `names`: those by which `named` knows it; `began`, `ended` (now) in Unix time."""
    sdk = _sdk
    if sdk is None:
        return
    own = sdk.new_id() if names is None else _id_of(names)
    sdk.tell(
        name, traceparent, kind=kind, own=own, links=links, attributes=attributes, began=began,
        ended=time.time() if ended is None else ended, error=error,
    )  # fmt: skip


def tell_together(name: str, traceparents: Iterable[str | None], *, began: float, size: int, kind: Kind) -> None:
    """One piece of work for many traces: a span in the first of them, with links to the others. For one it is none."""
    if _sdk is None:
        return
    kept = [one for one in traceparents if one is not None]
    if len(kept) > 1:
        attributes = {"messaging.batch.message_count": size}
        tell(name, kept[0], kind=kind, links=kept[1:], attributes=attributes, began=began)


def _id_of(names: Sequence[object]) -> int:
    text = "|".join(str(name) for name in names)
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest()) or 1


def _joined(traceparent: str, own: int) -> str:
    """Of another span in the same trace."""
    return f"{traceparent[:36]}{own:016x}-01"


class _Sdk:
    """OpenTelemetry's SDK, imported only here; not made global, or other libraries would tell what nobody asked for."""

    def __init__(self, process: str, environment: Mapping[str, str], exporter: "SpanExporter | None") -> None:
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        class Ids(RandomIdGenerator):  # type: ignore[misc, unused-ignore]
            """By chance, but for the one that is given."""

            trace: int | None = None

            def generate_trace_id(self) -> int:
                given, self.trace = self.trace, None
                return given or int(super().generate_trace_id())

            def is_trace_id_random(self) -> bool:
                return True

        about = {"service.version": comanda.__version__, "service.instance.id": process}
        if "OTEL_SERVICE_NAME" not in environment and "service.name=" not in environment.get(
            "OTEL_RESOURCE_ATTRIBUTES", ""
        ):
            about["service.name"] = "comanda"
        self._trace = trace
        self._ids = Ids()
        self._resource = Resource.create(about)
        self._provider = TracerProvider(resource=self._resource, id_generator=self._ids, shutdown_on_exit=False)
        self._processor = BatchSpanProcessor(exporter or OTLPSpanExporter())
        self._provider.add_span_processor(self._processor)
        self._tracer = self._provider.get_tracer("comanda", comanda.__version__)
        self._scope = InstrumentationScope("comanda", comanda.__version__)
        self._span = ReadableSpan
        self._failed, self._fine = trace.Status(trace.StatusCode.ERROR), trace.Status(trace.StatusCode.UNSET)
        self._sampled = trace.TraceFlags(trace.TraceFlags.SAMPLED)
        self._propagator = TraceContextTextMapPropagator()
        self._kinds: dict[Kind, SpanKind] = {
            "SERVER": trace.SpanKind.SERVER,
            "CLIENT": trace.SpanKind.CLIENT,
            "PRODUCER": trace.SpanKind.PRODUCER,
            "CONSUMER": trace.SpanKind.CONSUMER,
            "INTERNAL": trace.SpanKind.INTERNAL,
        }

    def is_kept(self, name: str) -> bool:
        """Throw the dice for a trace that begins here: without making a span first. The next one is of that trace."""
        made = self._ids.generate_trace_id()
        decided = self._provider.sampler.should_sample(None, made, name, self._kinds["SERVER"], None, None)
        if decided.decision.is_sampled():  # type: ignore[no-untyped-call, unused-ignore]
            self._ids.trace = made
            return True
        return False

    def begin(self, name: str, sent: Mapping[str, str]) -> "Span":
        """A request's span, as the sampler has it."""
        context = self._propagator.extract(sent) if sent else None
        span: Span = self._tracer.start_span(name, context=context, kind=self._kinds["SERVER"])
        return span

    def new_id(self) -> int:
        return int(self._ids.generate_span_id())

    def tell(
        self,
        name: str,
        parent: str,
        *,
        kind: Kind,
        own: int,
        links: Iterable[str] = (),
        attributes: Attributes | None = None,
        began: float,
        ended: float,
        error: str | None = None,
    ) -> None:
        """A span that is over, straight to who exports it: it was decided long ago that it is kept.

        The SDK's own way, to begin it, let the sampler judge it, and end it, costs three times as much.
        """
        above = self._context(parent)
        if error is not None:
            attributes = {**(attributes or {}), "error.type": error}
        self._processor.on_end(
            self._span(
                name,
                self._trace.SpanContext(above.trace_id, own, is_remote=False, trace_flags=self._sampled),
                above,
                self._resource,
                attributes,
                links=[self._trace.Link(self._context(one)) for one in links],
                kind=self._kinds[kind],
                status=self._fine if error is None else self._failed,
                start_time=int(began * 1e9),
                end_time=int(ended * 1e9),
                instrumentation_scope=self._scope,
            )
        )

    def _context(self, traceparent: str) -> "SpanContext":
        ids = int(traceparent[3:35], 16), int(traceparent[36:52], 16)
        return self._trace.SpanContext(*ids, is_remote=True, trace_flags=self._sampled)

    def close(self) -> None:
        self._provider.shutdown()
