"""Logs and metrics. One event is one line of JSON; metrics hold no ids in their labels."""

import logging
import logging.handlers
import re
import sys
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import structlog
from prometheus_client import Counter, Gauge, Histogram

REQUEST_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
SAGA_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 86400)

ORDERS = Counter("orders_processed", "Orders that ended, by state", ["status"])
DURATION = Histogram(
    "order_processing_duration_seconds",
    "From the order's acceptance to its end",
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 3, 5, 10, 30, 60, 300, 900, 1800),
)
QUEUE_LENGTH = Gauge("queue_length", "Jobs that are ready, by queue", ["queue"], multiprocess_mode="mostrecent")
JOBS = Counter("queue_jobs_completed", "Jobs completed, by queue", ["queue"])
REQUESTS = Histogram(
    "http_request_duration_seconds",
    "Requests, by route",
    ["endpoint", "method"],
    buckets=REQUEST_BUCKETS,
)
LIMITED = Counter("http_requests_limited", "Requests that a rate limit refused, by class of routes", ["class"])
IMPORTED = Counter("import_lines", "Lines of files that were worked off, by outcome", ["kind", "outcome"])
BULK = Counter(
    "bulk_items", "Sagas and dead letters that were acted on in bulk, by verb and outcome", ["verb", "outcome"]
)
RESPONSES = Counter("http_requests", "Requests answered, by route and status", ["endpoint", "method", "status"])
ATTEMPTS = Counter("saga_attempts", "Attempts at steps, by outcome", ["outcome"])
STEP_ATTEMPTS = Counter("saga_step_attempts", "Attempts by process, step and outcome", ["kind", "step", "outcome"])
STEP_SECONDS = Counter("saga_step_seconds", "Seconds that attempts took, by process and step", ["kind", "step"])
SAGAS = Histogram(
    "saga_duration_seconds",
    "From a saga's start to its end, by process and how it ended",
    ["kind", "state"],
    buckets=SAGA_BUCKETS,
)
BATCHES = Histogram(
    "batch_size",
    "Orders, sagas or events that one commit carried, by what it was for",
    ["operation"],
    buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500),
)
GATEWAY = Histogram(
    "gateway_request_duration_seconds",
    "Calls of the payment gateway, by what was asked and how it answered: 2xx, 4xx, 5xx, silent, unreachable",
    ["operation", "answer"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 3, 5, 10),
)
POOL = Gauge(
    "database_pool_connections",
    "Connections to PostgreSQL of all processes, by pool and state",
    ["pool", "state"],
    multiprocess_mode="livesum",
)
POOL_USED = Gauge(
    "database_pool_used_ratio",
    "The part of its connections that the busiest process uses, by pool",
    ["pool"],
    multiprocess_mode="livemax",
)
LEASES_LOST = Counter("saga_leases_lost", "Results that a fencing token refused")
OLDEST_DUE = Gauge(
    "queue_oldest_due_age_seconds",
    "For how long the oldest step that could go on has been waiting to be taken, by queue",
    ["queue"],
    multiprocess_mode="mostrecent",
)
STUCK = Gauge("sagas_stuck", "Sagas that could not be undone", multiprocess_mode="mostrecent")
DEAD_LETTERS = Gauge("dead_letters", "Dead letters that nobody has redriven", multiprocess_mode="mostrecent")
OUTBOX_BEHIND = Gauge("outbox_unpublished_events", "Events that wait for the relay", multiprocess_mode="mostrecent")
OLDEST_EVENT = Gauge(
    "outbox_oldest_event_age_seconds",
    "Age of the oldest event that was not handed on, by who gets it",
    ["sink"],
    multiprocess_mode="mostrecent",
)
MEASURED = Gauge(
    "relay_last_measured_timestamp_seconds",
    "When a relay last looked at queues, outbox and breaker, in Unix time",
    multiprocess_mode="mostrecent",
)
BREAKER = Gauge("gateway_breaker_open", "1 while the breaker is open", multiprocess_mode="mostrecent")
REPLICA_LAG = Gauge(
    "replica_lag_seconds", "How far the replica for reads is behind at the most", multiprocess_mode="mostrecent"
)
LISTS = Counter("lists_read", "Lists read, by server: the replica or the primary", ["server"])
VIOLATIONS = Gauge(
    "comanda_invariant_violations", "Rows that break an invariant, by check", ["check"], multiprocess_mode="mostrecent"
)


_SECRET = frozenset(
    {"password", "token", "accesstoken", "refreshtoken", "authorization", "cookie", "secret", "secretkey", "email"}
    | {"phone", "phonenumber", "firstname", "lastname", "address", "shippingaddress", "recipient"}
)
_PLAIN = frozenset({"timestamp", "level", "process", "context", "correlationId", "orderId", "userId", "traceId"})
_SHOWS = ("@", "eyJ", "whsec_", "earer ", "assword=")  # without one of these there is nothing to be masked
_MASKS = (
    (re.compile(r"(\w://)[^/\s@]+@"), r"\1***@"),  # credentials in a URL
    (re.compile(r"[\w.+-]+@([\w-]+\.[\w.-]+)"), r"***@\1"),
    (re.compile(r"\beyJ[\w-]+\.[\w-]+\.[\w-]*"), "***"),
    (re.compile(r"\bwhsec_[\w+/=]+"), "whsec_***"),
    (re.compile(r"\b([Bb]earer )[\w.~+/=-]+"), r"\1***"),
    (re.compile(r"([Pp]assword=)('(?:[^'\\]|\\.)*'|[^\s&]+)"), r"\1***"),  # libpq's way to say it, and a query's
)


def masked(text: str) -> str:
    """A text without credentials, tokens and addresses, whoever put them there: a driver's error, a traceback."""
    if any(sign in text for sign in _SHOWS):
        for pattern, mask in _MASKS:
            text = pattern.sub(mask, text)
    return text


def _shown(name: str, value: Any) -> Any:
    """A field's value as anybody may read it, however deep what is nobody's business lies in it."""
    if name.lower().replace("_", "") in _SECRET:
        return "***"
    match value:
        case str():
            return masked(value)
        case Mapping():
            return {str(key): _shown(str(key), one) for key, one in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_shown("", one) for one in value]
        case _:
            return value


class _Fields:
    """The document's field names; what a library or another thread says has them too."""

    def __init__(self, process: str) -> None:
        self._process = process

    def __call__(self, _logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        record: logging.LogRecord | None = event.pop("_record", None)
        event.pop("_from_structlog", None)
        event["message"] = event.pop("event")
        for name, value in event.items():
            if name not in _PLAIN:
                event[name] = _shown(name, value)
        event.setdefault("process", self._process)
        if record is not None:
            event.setdefault("context", record.name)
        return event


def _dumps(event: Any, **_: Any) -> str:
    # What is no type of JSON's speaks for itself, a driver's error for one.
    return msgspec.json.encode(event, enc_hook=lambda value: masked(str(value))).decode()


_SHARED: list[Any] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True, key="timestamp"),
    structlog.processors.format_exc_info,
]


def configure(*, level: str, directory: Path | None, process: str) -> None:
    """JSON lines on stderr, and daily files (kept for 14 days) where a directory is given."""
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    if directory is not None:
        directory.mkdir(parents=True, exist_ok=True)
        handlers.append(
            logging.handlers.TimedRotatingFileHandler(
                directory / f"{process}.log", when="midnight", utc=True, backupCount=14, encoding="utf-8"
            )
        )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_SHARED,
        processors=[
            _Fields(process),
            structlog.processors.JSONRenderer(serializer=_dumps),
        ],
    )
    root = logging.getLogger()
    root.handlers[:] = handlers
    for handler in handlers:
        handler.setFormatter(formatter)
    root.setLevel(level.upper())
    # They tell of each lost connection with a traceback; what is away is said once, in our words.
    for talkative in ("asyncio", "asyncpg", "asyncpg.pool", "urllib3"):
        logging.getLogger(talkative).setLevel(logging.ERROR)
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *_SHARED, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(process=process)


def log(context: str) -> structlog.stdlib.BoundLogger:
    """A logger; `context` says which part of Comanda speaks."""
    # Lazy: loggers are made when modules are imported, before anybody has configured them.
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(context, context=context)
    return logger


@contextmanager
def correlated(correlation_id: str) -> Iterator[None]:
    """Every line logged in the block carries the request's correlation id; calls outside send it on."""
    # Not `bound_contextvars`: it reads every variable there is, for each call of each order.
    tokens = structlog.contextvars.bind_contextvars(correlationId=correlation_id)
    try:
        yield
    finally:
        structlog.contextvars.reset_contextvars(**tokens)


def correlation_id() -> str | None:
    """The correlation id of what runs right now."""
    found: str | None = structlog.contextvars.get_contextvars().get("correlationId")
    return found
