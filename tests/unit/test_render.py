import itertools
import json
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from babel.numbers import format_currency, get_currency_precision

from comanda.errors import DefinitionFault
from comanda.notifications import render as module
from comanda.notifications.render import ACCOUNT_KINDS, CHANNELS, KINDS, LANGUAGES, money, render

TEMPLATES = Path(module.__file__).parent / "templates"
GSM_7 = frozenset(
    "@£$¥èéùìòÇØøÅå_ÆæßÉ !\"#%&'()*+,-./0123456789:;<=>?¡"
    "ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà€"
)
CODES = [
    "INSUFFICIENT_FUNDS",
    "CARD_EXPIRED",
    "CARD_DECLINED",
    "INVALID_CARD",
    "CVV_FAILED",
    "CARD_STOLEN",
    "LIMIT_EXCEEDED",
    "CARD_NOT_ACTIVATED",
    "INVALID_BILLING_ADDRESS",
    "CARD_TYPE_NOT_ACCEPTED",
    "FRAUD_SUSPECTED",
    "OUT_OF_STOCK",
    "PRODUCT_UNAVAILABLE",
    "PAYMENT_UNAVAILABLE",
    "RESERVATION_EXPIRED",
]
EACH_KIND = pytest.mark.parametrize("kind", sorted(KINDS))
EACH_LANGUAGE = pytest.mark.parametrize("language", sorted(LANGUAGES))
ORDER_ID = "01985f3e-7d2a-7c11-9a3b-4f21c8d07e55"


def _variables(**changed: Any) -> dict[str, Any]:
    return {
        "order_id": ORDER_ID,
        "first_name": "Ana",
        "lines": [
            {"name": "Coffee beans", "quantity": 2, "unit_price": 55_000, "total": 110_000},
            {"name": "Mug", "quantity": 1, "unit_price": 13_450, "total": 13_450},
        ],
        "total_amount": 123_450,
        "currency": "USD",
        "reason": "INSUFFICIENT_FUNDS",
        "language": "en",
    } | changed


def _named(name: str) -> dict[str, Any]:
    return _variables(lines=[{"name": name, "quantity": 1, "unit_price": 100, "total": 100}])


def _reasons(language: str) -> dict[str, str]:
    sentences: dict[str, str] = json.loads((TEMPLATES / language / "reasons.json").read_text(encoding="utf-8"))
    return sentences


@EACH_KIND
@EACH_LANGUAGE
def test_an_email_has_a_subject_a_text_and_html(kind: str, language: str) -> None:
    message = render(kind, "email", language, _variables())
    assert message.html is not None
    assert ORDER_ID[-8:] in message.subject
    assert f'<html lang="{language}">' in message.html
    for body in (message.text, message.html):
        for part in ("Ana", "Coffee beans", "Mug", ORDER_ID, money(123_450, "USD", language)):
            assert part in body
        assert "{{" not in body
        assert "{%" not in body
    assert "\n\n\n" not in message.text


@EACH_KIND
@EACH_LANGUAGE
def test_an_sms_fits_into_one_segment(kind: str, language: str) -> None:
    message = render(kind, "sms", language, _variables(total_amount=99_999_999))
    assert (message.subject, message.html) == ("", None)
    assert ORDER_ID[-8:] in message.text
    assert len(message.text) <= 160
    assert set(message.text) <= GSM_7


@pytest.mark.parametrize("kind", sorted(ACCOUNT_KINDS))
@EACH_LANGUAGE
def test_a_mail_about_an_account_carries_its_token_and_nothing_of_an_order(kind: str, language: str) -> None:
    token = "w_x-" * 10 + "abc"
    message = render(kind, "email", language, {"first_name": "Ana", "token": token})
    assert message.html is not None
    assert 0 < len(message.subject) < 60
    assert token not in message.subject
    greeting = {"en": "Hello Ana,", "es": "Hola, Ana:"}[language]
    assert f"\n{token}\n" in message.text
    assert f">{token}<" in message.html
    assert f'<html lang="{language}">' in message.html
    for body in (message.text, message.html):
        assert greeting in body
        assert not any(part in body for part in ("{{", "{%", "Total", "https:", "src=", "href="))
    assert "\n\n\n" not in message.text
    with pytest.raises(DefinitionFault, match="by e-mail alone"):
        render(kind, "sms", language, {"first_name": "Ana", "token": token})
    for missing in ("first_name", "token"):
        with pytest.raises(DefinitionFault, match=missing):
            render(kind, "email", language, {name: "x" for name in ("first_name", "token") if name != missing})


@EACH_LANGUAGE
def test_every_kind_is_written_in_the_language_asked_for(language: str) -> None:
    greeting = {"en": "Hello Ana,", "es": "Hola, Ana:"}[language]
    for kind in KINDS:
        message = render(kind, "email", language, _variables(language="en"))
        assert message.text.startswith(greeting)
        assert greeting in (message.html or "")


def test_html_takes_nothing_from_elsewhere() -> None:
    for kind, language in itertools.product(KINDS, LANGUAGES):
        assert not re.search(
            r"https?:|src=|href=|url\(|@import", render(kind, "email", language, _variables()).html or ""
        )


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", "{{7*7}}", "{% include 'x' %}", '" onload="x', "a & b"])
def test_a_name_is_shown_as_it_is_written(name: str) -> None:
    message = render("order_confirmation", "email", "en", _named(name) | {"first_name": name})
    assert message.html is not None
    assert f"Hello {name}," in message.text
    assert f"- {name}\n" in message.text
    assert not any(raw in message.html for raw in ("<script", '" onload', "a & b", "49"))
    shown = name.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&#34;")
    assert message.html.count(shown.replace("'", "&#39;")) == 2


@pytest.mark.parametrize("end", ["\r\n", "\n", "\r", "\u2028", "\u0085", "\v", "\x00"])
def test_a_line_break_reaches_neither_the_subject_nor_a_line_of_its_own(end: str) -> None:
    evil = f"Ana{end}Bcc: all@example.com"
    for kind, language in itertools.product(KINDS, LANGUAGES):
        message = render(kind, "email", language, _named(evil) | {"first_name": evil, "order_id": f"0{end}1"})
        assert message.subject.isprintable()
        assert "0 1" in message.subject
        assert not any(line.startswith("Bcc") for line in message.text.splitlines())
        assert render(kind, "sms", language, _variables(order_id=f"0{end}1")).text.isprintable()


def test_a_subject_stays_short() -> None:
    assert len(render("order_confirmation", "email", "es", _variables(order_id="x" * 5000)).subject) < 60


def test_nobody_is_greeted_by_an_empty_name() -> None:
    assert render("order_confirmation", "email", "en", _variables(first_name="")).text.startswith("Hello,\n")
    assert render("order_confirmation", "email", "en", _variables(first_name=None)).text.startswith("Hello,\n")
    assert render("order_confirmation", "email", "es", _variables(first_name=" ")).text.startswith("Hola:\n")


@pytest.mark.parametrize("language", ["fr", "", "../es", "xx-ES", "English"])
def test_an_unknown_language_falls_back_to_english(language: str) -> None:
    assert render("payment_failure", "email", language, _variables()) == render(
        "payment_failure", "email", "en", _variables()
    )


@pytest.mark.parametrize("language", ["es-MX", "es_ES", "ES"])
def test_a_region_falls_back_to_its_language(language: str) -> None:
    assert render("payment_failure", "sms", language, _variables()) == render(
        "payment_failure", "sms", "es", _variables()
    )


def test_an_unknown_kind_or_channel_is_a_fault() -> None:
    with pytest.raises(DefinitionFault, match="known: email_verification, order_cancellation"):
        render("../layout", "email", "en", _variables())
    with pytest.raises(DefinitionFault, match="known: email, sms"):
        render("order_confirmation", "pigeon", "en", _variables())


@pytest.mark.parametrize("channel", sorted(CHANNELS))
@pytest.mark.parametrize("missing", ["order_id", "first_name", "lines", "total_amount", "currency"])
def test_a_missing_variable_is_a_fault_that_names_it(missing: str, channel: str) -> None:
    variables = _variables()
    del variables[missing]
    with pytest.raises(DefinitionFault, match=missing):
        render("order_confirmation", channel, "en", variables)


@pytest.mark.parametrize(
    ("language", "currency", "amount", "written"),
    [
        ("en", "USD", 123_450, "$1,234.50"),
        ("es", "USD", 123_450, "1.234,50\u00a0US$"),
        ("en", "JPY", 1_234, "¥1,234"),
        ("es", "JPY", 1_234, "1.234\u00a0JPY"),
        ("es", "EUR", 5, "0,05\u00a0€"),
        ("en", "KWD", 1_234_567, "KWD1,234.567"),
    ],
)
def test_amounts_are_written_as_the_reader_writes_them(language: str, currency: str, amount: int, written: str) -> None:
    message = render("order_confirmation", "email", language, _variables(currency=currency, total_amount=amount))
    assert message.html is not None
    assert written in message.text
    assert written in message.html


@pytest.mark.parametrize("currency", ["USD", "EUR", "MXN", "JPY", "KWD", "CLF", "CHF", "COP", "ZZZ"])
@EACH_LANGUAGE
def test_money_agrees_with_babel(language: str, currency: str) -> None:
    digits = get_currency_precision(currency)
    for amount in (0, 1, 9, 10, 99, 100, 999, 1_000, 99_999, 100_000, 123_456_789, 10**15 + 1, -1, -123_456):
        exact = Decimal(amount).scaleb(-digits)
        assert money(amount, currency, language) == format_currency(exact, currency, locale=language)


@pytest.mark.parametrize("code", CODES)
@EACH_LANGUAGE
def test_a_known_reason_is_a_sentence_and_never_a_code(code: str, language: str) -> None:
    for kind in ("payment_failure", "order_cancellation"):
        message = render(kind, "email", language, _variables(reason=code))
        assert _reasons(language)[code] in message.text
        assert code not in message.text + (message.html or "")


@pytest.mark.parametrize("reason", ["SOMETHING_NEW", "", None, "<b>"])
def test_an_unknown_reason_has_a_sentence_for_its_kind(reason: str | None) -> None:
    for kind, language in itertools.product(("payment_failure", "order_cancellation"), LANGUAGES):
        text = render(kind, "email", language, _variables(reason=reason)).text
        assert _reasons(language)[kind] in text
        assert not reason or reason not in text


@EACH_LANGUAGE
def test_a_confirmation_never_speaks_of_a_reason(language: str) -> None:
    plain, told = (
        render("order_confirmation", "email", language, _variables(reason=code)) for code in (None, CODES[0])
    )
    assert plain == told


def test_a_suspicion_of_fraud_accuses_nobody() -> None:
    for language in LANGUAGES:
        message = render("payment_failure", "email", language, _variables(reason="FRAUD_SUSPECTED"))
        assert not re.search(
            "fraud|suspic|suspect|sospech|stolen|robad", message.text + (message.html or ""), re.IGNORECASE
        )


def test_every_language_has_the_same_files_and_the_same_reasons() -> None:
    assert {"en", "es"} <= LANGUAGES
    english = {path.name for path in (TEMPLATES / "en").iterdir()}
    for language in LANGUAGES:
        assert {path.name for path in (TEMPLATES / language).iterdir()} == english
        assert _reasons(language).keys() == _reasons("en").keys()
