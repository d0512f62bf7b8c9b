"""Signatures that a foreign library accepts; addresses that nothing is sent to."""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address, ip_network

import pytest
import yarl
from standardwebhooks import Webhook, WebhookVerificationError

from comanda.networks import without_address
from comanda.resilience.backoff import Policy
from comanda.webhooks.model import is_signed, shown, signature, unshown, wrong_address, wrong_url

SECRET, OLD = bytes(range(32)), bytes(range(1, 33))
BODY = '{"type":"OrderConfirmed","data":{"name":"Ñandú"}}'.encode()


def headers(*secrets: bytes, at: datetime | None = None) -> dict[str, str]:
    stamp = int((at or datetime.now(UTC)).timestamp())
    return {
        "webhook-id": "msg-1", "webhook-timestamp": str(stamp),
        "webhook-signature": signature(secrets, "msg-1", stamp, BODY),
    }  # fmt: skip


def test_the_foreign_library_accepts_what_is_signed() -> None:
    assert Webhook(shown(SECRET)).verify(BODY, headers(SECRET))["type"] == "OrderConfirmed"


def test_after_a_rotation_both_secrets_verify() -> None:
    for one in (SECRET, OLD):
        Webhook(shown(one)).verify(BODY, headers(SECRET, OLD))


def test_we_verify_what_the_foreign_library_signs() -> None:
    now = datetime.now(UTC)
    given = Webhook(shown(SECRET)).sign("msg-1", now, BODY.decode())
    sent = headers(OLD, at=now)
    sent["webhook-signature"] += f" {given}"
    assert is_signed(unshown(shown(SECRET)), sent, BODY, now.timestamp())


@pytest.mark.parametrize("change", ["secret", "body", "id", "time"])
def test_it_refuses_what_was_changed(change: str) -> None:
    sent, body, secret = headers(SECRET), BODY, SECRET
    match change:
        case "secret":
            secret = OLD
        case "body":
            body = BODY.replace(b"Confirmed", b"Cancelled")
        case "id":
            sent["webhook-id"] = "msg-2"
        case "time":
            sent = headers(SECRET, at=datetime.now(UTC) - timedelta(minutes=6))
    with pytest.raises(WebhookVerificationError):
        Webhook(shown(secret)).verify(body, sent)
    assert not is_signed(secret, sent, body, datetime.now(UTC).timestamp()), "nor do we"


@pytest.mark.parametrize("header", ["webhook-id", "webhook-timestamp", "webhook-signature"])
@pytest.mark.parametrize("value", [None, "", "x", "\u0661", "v1,", "-1"])
def test_what_is_no_header_of_ours_is_not_signed(header: str, value: str | None) -> None:
    sent = headers(SECRET)
    now = int(sent["webhook-timestamp"])
    assert is_signed(SECRET, sent, BODY, now)
    del sent[header]
    if value is not None:
        sent[header] = value
    assert not is_signed(SECRET, sent, BODY, now)


NOT_PUBLIC = [
    "127.0.0.1", "127.8.8.8", "0.0.0.0", "10.0.0.1", "172.16.3.4", "192.168.1.1", "169.254.169.254", "100.64.0.1",
    "198.18.0.1", "192.0.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255", "::1", "::", "fe80::1", "fc00::1",
    "fd12:3456::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::",
    "2001:0:7f00:1::", "2001:db8::1", "::10.0.0.1", "::ffff:0:10.0.0.1", "5f00::1", "192.88.99.1", "4000::1",
]  # fmt: skip


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_nothing_is_sent_to_addresses_that_are_not_public(address: str) -> None:
    assert wrong_address(ip_address(address), []) is not None
    host = f"[{address}]" if ":" in address else address
    assert wrong_url(f"http://{host}:8080/hook", []) is not None


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946"])
def test_public_addresses_are_fine(address: str) -> None:
    assert wrong_address(ip_address(address), []) is None


def test_a_network_can_be_allowed() -> None:
    allowed = [ip_network("10.1.0.0/16")]
    assert wrong_address(ip_address("10.1.2.3"), allowed) is None
    assert wrong_address(ip_address("::ffff:10.1.2.3"), allowed) is None
    assert wrong_address(ip_address("10.2.2.3"), allowed) is not None


@pytest.mark.parametrize(
    "url",
    [
        "", "example.com", "ftp://example.com/", "file:///etc/passwd", "gopher://example.com", "http://", "http:///x",
        "http://user:word@example.com/", "http://example.com:99999/", "http://exa\nmple.com/", "http://[::1",
        "javascript:1", "http://\uff11\uff12\uff17.0.0.1/", "http://ex\u00e4mple.com/",
        "http://example.com/#part", "https://example.com/" + "x" * 2000, "http://exa mple.com/", "http://example.com:0/",
        "http://%31%30.0.0.1/", "http://10.1/", "http://0/", "http://0xa9fea9fe/", "http://012.1.1.1/", "http://10.0.0.1./",
    ],
)  # fmt: skip
def test_what_is_no_url_for_this_is_refused(url: str) -> None:
    assert wrong_url(url, []) is not None


def test_a_schedule_is_followed_and_then_over() -> None:
    policy = Policy(schedule=(timedelta(seconds=5), timedelta(minutes=5)), jitter=0)
    assert [policy.wait(attempt, 0.5) for attempt in (1, 2)] == [timedelta(seconds=5), timedelta(minutes=5)]
    assert [policy.is_over(attempt, timedelta(days=9)) for attempt in (1, 2, 3)] == [False, False, True]


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://Hooks.Example.com/services/T0PSECRET", "https://hooks.example.com"),
        ("https://h.example:443/T0P SECRET/É?x=1", "https://h.example"),
        ("http://h.example:8080/T0PSECRET", "http://h.example:8080"),
        ("http://user:T0PSECRET@h.example/", "http://h.example"),  # pragma: allowlist secret
    ],
)
def test_of_an_address_only_where_it_leads_is_told_however_it_is_spelt(url: str, origin: str) -> None:
    for spelt in (url, str(yarl.URL(url)), yarl.URL(url).human_repr()):
        assert without_address(TimeoutError(f"nobody answers at {spelt}"), url) == f"nobody answers at {origin}"
    assert without_address(TimeoutError(), url) == "TimeoutError"
