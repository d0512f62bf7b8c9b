"""Settings: what is wrong is said in a sentence; what is misspelt is not swallowed."""

import pytest

from comanda import settings
from comanda.errors import ConfigurationFault
from comanda.settings import Settings, strangers

KEY = "9f2b6c1d8e4a70355ab1c6d2e8f94730"  # pragma: allowlist secret


def test_a_misspelt_setting_is_named_with_the_one_that_is_meant() -> None:
    environment = {"COMANDA_LEASE_SECOND": "1", "COMANDA_LEASE_SECONDS": "1", "PATH": "/bin", "COMANDA_API": "here"}
    assert strangers(environment) == ["COMANDA_LEASE_SECOND is no setting: is COMANDA_LEASE_SECONDS meant?"]
    assert strangers({"COMANDA_XYZZY": "1"}) == ["COMANDA_XYZZY is no setting"]


def test_every_setting_is_known_by_its_own_name() -> None:
    assert strangers({f"COMANDA_{name.upper()}": "" for name in Settings.model_fields}) == []


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("LEASE_SECONDS", "0", "greater than 0"),
        ("GATEWAY_OUTCOMES", "80/15/6", "add up to 100"),
        ("GATEWAY_LATENCY_MS", "9-1", "must not start above its end"),
        ("SECRET_KEY", "short", "at least 32 bytes"),
        ("ALERT_WEBHOOK_URL", "ftp://x", "must start with http://"),
    ],
)
def test_a_wrong_setting_is_one_sentence_with_its_name(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv(f"COMANDA_{name}", value)
    with pytest.raises(ConfigurationFault, match=said) as refused:
        settings.load()
    assert f"COMANDA_{name}" in str(refused.value)
    assert refused.value.exit_code == 2


def test_failpoints_are_refused_in_production(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"ENVIRONMENT": "production", "SECRET_KEY": KEY, "FAILPOINTS": "/f"}.items():
        monkeypatch.setenv(f"COMANDA_{name}", value)
    with pytest.raises(ConfigurationFault, match="COMANDA_FAILPOINTS makes processes die"):
        settings.load()


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("SECRET_KEY", "", "must be set in production"),
        ("SECRET_KEY", KEY[:31], "must have at least 32 bytes"),
        ("SECRET_KEY", "x" * 64, "must not be a repeated letter: make one with"),
        ("SECRET_KEY", "abc" * 20, "must not be a repeated letter: make one with"),
        ("SECRET_KEY", "0123456789abcdef" * 2, "is an example's: make one with"),
        ("SECRET_KEY", f"Change-Me-{KEY}", "is an example's: make one with"),
        ("SECRET_KEY", "your-very-own-secret-key-goes-here", "is an example's: make one with"),
        ("SECRET_KEY", f"django-insecure-{KEY}", "is an example's: make one with"),
        ("ADMIN_PASSWORD", "admin", "must have at least 12 characters in production: make one with"),
        ("ADMIN_PASSWORD", KEY[:11], "must have at least 12 characters in production: make one with"),
        ("ADMIN_PASSWORD", "aaaaaaaaaaaaaaaa", "is among the first to be guessed: make one with"),
        ("ADMIN_PASSWORD", "123456789012", "is among the first to be guessed: make one with"),
        ("ADMIN_PASSWORD", "Password-Password!", "is among the first to be guessed: make one with"),
        ("ADMIN_PASSWORD", "Administrator2026", "is among the first to be guessed: make one with"),
        ("ADMIN_PASSWORD", "correct horse battery", "is among the first to be guessed: make one with"),
    ],
)
def test_production_does_not_start_with_a_secret_that_can_be_guessed(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    for one, given in ({"ENVIRONMENT": "production", "SECRET_KEY": KEY} | {name: value}).items():
        monkeypatch.setenv(f"COMANDA_{one}", given)
    with pytest.raises(ConfigurationFault, match=f"^COMANDA_{name} {said}") as refused:
        settings.load()
    assert len(value) < 6 or value not in str(refused.value)


@pytest.mark.parametrize("password", ["", KEY[:12], "an apple, a pear, a plum"])
def test_production_starts_with_secrets_that_were_made_up(monkeypatch: pytest.MonkeyPatch, password: str) -> None:
    for one, given in {"ENVIRONMENT": "production", "SECRET_KEY": KEY, "ADMIN_PASSWORD": password}.items():
        monkeypatch.setenv(f"COMANDA_{one}", given)
    assert settings.load().admin_password.get_secret_value() == password


def test_in_development_any_password_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMANDA_ADMIN_PASSWORD", "admin")
    assert settings.load().environment == "development"


@pytest.mark.parametrize(
    "named",
    [
        "shop.example", "https://shop.example/", "https://Shop.example", "https://shop.example:443", "http://a:80",
        "https://*.example", "null", "https://a,*", "ftp://a", "https://a b",
    ],
)  # fmt: skip
def test_an_origin_is_written_as_browsers_send_it(monkeypatch: pytest.MonkeyPatch, named: str) -> None:
    monkeypatch.setenv("COMANDA_CORS_ORIGINS", named)
    with pytest.raises(ConfigurationFault, match="COMANDA_CORS_ORIGINS: must read like"):
        settings.load()


@pytest.mark.parametrize(
    ("named", "read"),
    [
        ("", ()),
        ("none", ()),
        ("*", ("*",)),
        (
            "https://a.example, http://localhost:3000,http://[::1]:8080",
            ("https://a.example", "http://localhost:3000", "http://[::1]:8080"),
        ),
    ],
)
def test_origins_are_a_list(monkeypatch: pytest.MonkeyPatch, named: str, read: tuple[str, ...]) -> None:
    monkeypatch.setenv("COMANDA_CORS_ORIGINS", named)
    assert settings.load().cors_origins == read


def test_every_origin_is_refused_in_production(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"ENVIRONMENT": "production", "SECRET_KEY": KEY, "CORS_ORIGINS": "*"}.items():
        monkeypatch.setenv(f"COMANDA_{name}", value)
    with pytest.raises(ConfigurationFault, match=r"COMANDA_CORS_ORIGINS=\* lets every page in"):
        settings.load()
