"""Whatever the API says to people it says in English and in Spanish."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from string import Formatter
from typing import get_args

import pytest
from pydantic import ValidationError
from pydantic_core.core_schema import ErrorType

import comanda
from comanda.api import bodies, language
from comanda.api.explained import EXPLAINED
from comanda.api.language import ENGLISH, LANGUAGES, TRANSLATIONS, negotiated, title, told
from comanda.api.problems import CODES, problem_response
from comanda.catalog.bodies import ProductBody
from comanda.field_errors import INVALID, KINDS, of_msgspec, of_pydantic
from comanda.fields import Body
from comanda.sentences import Sentence

SPANISH = TRANSLATIONS["es"]
SOURCES = Path(comanda.__file__).parent
SAYING = {"Problem", "problem_response", "FieldError", "Sentence", "ValueError"}
ONLY_SENTENCES = {"Sentence"}
REFUSALS = {"_Refusal", "Rejected", "Refused", "_Refused"}
# What is said below the API, and handed to it.
FILES = [
    *(SOURCES / "api").glob("*.py"),
    SOURCES / "checkout" / "place_order.py",
    SOURCES / "catalog" / "categories.py",
    SOURCES / "webhooks" / "model.py",
    SOURCES / "field_errors.py",
]
# Of these, headers of files that can't be read are told at once; what is wrong with a line is kept as it was said.
REPORTING = [SOURCES / "imports" / name for name in ("files.py", "imports.py", "lines.py")]
# What stands in the way of an act the console says itself: test_console_words.py holds it to es.po.
OF_THE_CONSOLE = [
    SOURCES / name
    for name in (
        "saga/verbs.py", "bulk/chunks.py", "bulk/filters.py", "cli/terminal.py", "console/render.py",
        "console/payments.py", "console/products.py",
    )
]  # fmt: skip
OURS = {"blank", "nul", "surrogate", "not_finite", "email", "phone", "too_many_values", "too_deep", "no_change"} | {
    "not_null", "key", "zone", "cursor", "product", "category", "untrimmed", "restock_without_items",
    "no_time_between",
}  # fmt: skip


def _said(source: str, saying: set[str] = SAYING | REFUSALS) -> Iterator[str]:
    """Every sentence of a file, as its English pattern. One that is put together on the spot can't be translated."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(func=ast.Name(id=name)) if name in saying:
                parts = [*node.args, *(one.value for one in node.keywords if one.arg != "headers")]
            case ast.Return(value=ast.Constant(value=str()) as value) if saying is not ONLY_SENTENCES:
                parts = [value]
            case _:
                continue
        for part in parts:
            for inner in ast.walk(part):
                assert not isinstance(inner, ast.JoinedStr), f"line {inner.lineno}: say it with Sentence(pattern, …)"
                if isinstance(inner, ast.Constant) and isinstance(inner.value, str) and " " in inner.value.strip():
                    yield inner.value


SENTENCES = (
    {one for file in FILES for one in _said(file.read_text(encoding="utf-8"))}
    | {one for file in REPORTING for one in _said(file.read_text(encoding="utf-8"), ONLY_SENTENCES)}
    | {pattern for _, pattern in KINDS.values()}
)


def _holes(pattern: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(pattern) if name}


def test_every_title_is_there_in_spanish() -> None:
    assert SPANISH["titles"].keys() == CODES.keys()


@pytest.mark.parametrize("code", CODES)
def test_every_code_is_explained_in_both(code: str) -> None:
    """Why, and what to do next; the title said again is none."""
    english, spanish = " ".join(EXPLAINED[code]), SPANISH["explained"][code]
    assert english != spanish
    for text, name in ((english, CODES[code][1]), (spanish, SPANISH["titles"][code])):
        assert text[-1] == "."
        assert len(text) > len(name) + 20
    assert set(re.findall(r"`[^`]+`", english)) == set(re.findall(r"`[^`]+`", spanish))


def test_nothing_is_explained_that_there_is_not() -> None:
    assert EXPLAINED.keys() == SPANISH["explained"].keys() == CODES.keys()


def test_every_sentence_is_there_in_spanish() -> None:
    assert len(SENTENCES) > 70
    assert SPANISH["sentences"].keys() == SENTENCES, "missing, or said nowhere any more"


def test_sentences_are_said_where_they_are_looked_for() -> None:
    saying = {one for one in SOURCES.rglob("*.py") if "comanda.sentences import" in one.read_text(encoding="utf-8")}
    assert saying <= {*FILES, *REPORTING, *OF_THE_CONSOLE}


def test_nothing_is_lost_in_translation() -> None:
    for english, spanish in SPANISH["sentences"].items():
        assert _holes(english) == _holes(spanish), english
    for text in [text for part in SPANISH.values() for text in part.values()]:
        assert text == text.strip()
        assert text
        assert not re.search(r"\b(?:usted|the|is|are)\b", text), text


def test_a_sentence_that_is_put_together_where_it_is_said_is_found() -> None:
    with pytest.raises(AssertionError, match="Sentence"):
        list(_said('raise Problem("CONFLICT", f"Only {left} are left")'))
    assert list(_said('raise Problem("CONFLICT", "So it is" if odd else "Not so")')) == ["So it is", "Not so"]


def test_pydantics_kinds_are_called_as_pydantic_calls_them() -> None:
    assert KINDS.keys() - OURS <= set(get_args(ErrorType))


@pytest.mark.parametrize(
    ("accepted", "chosen"),
    [
        (b"", "en"),
        (b"es", "es"),
        (b"ES", "es"),
        (b"es-MX", "es"),
        (b"es-419,es;q=0.9,en;q=0.8", "es"),
        (b"en-US,en;q=0.9,es;q=0.8", "en"),
        (b"en;q=0.3, es;q=0.4", "es"),
        (b"fr, de;q=0.9", "en"),
        (b"fr, es;q=0.1", "es"),
        (b"*", "en"),
        (b"*;q=0.5, es;q=0.6", "es"),
        (b"es;q=0.2, *;q=0.8", "en"),
        (b"en;q=0, *", "es"),
        (b"es;q=0", "en"),
        (b"es;q=0.0, en;q=0", "en"),
        (b"es, en", "es"),
        (b"en, es", "en"),
        (b"fr, es, en", "es"),
        (b"es;q=nonsense", "en"),
        (b"es;q=7", "en"),
        (b"es;q=nan", "en"),
        (b"est", "en"),
        (b"es;level=1;q=0.5, en;q=0.4", "es"),
        (b";;;,,,=\xff", "en"),
        (b"es" * 10_000, "en"),
    ],
)
def test_the_language_that_is_wanted_most_is_spoken(accepted: bytes, chosen: str) -> None:
    assert negotiated(accepted) == chosen


def test_several_headers_are_one_list() -> None:
    assert language.asked_for([(b"accept-language", b"fr"), (b"accept", b"*/*"), (b"accept-language", b"es")]) == "es"
    assert language.asked_for([]) == ENGLISH


def test_a_sentence_within_a_sentence_is_translated_too() -> None:
    inner = Sentence("At most {max_length} characters are allowed", max_length=5)
    whole = Sentence("{field}: {message}", field="notes", message=inner)
    assert whole == "notes: At most 5 characters are allowed"
    assert told(whole, "es") == "notes: Se permiten como máximo 5 caracteres"


def test_what_has_no_spanish_is_said_in_english() -> None:
    assert told("Nobody has said this yet", "es") == "Nobody has said this yet"
    assert title("NEW_CODE", "Something new", "es") == "Something new"
    assert told(Sentence("{free} and {free}", free=1), "es") == "1 and 1"


@pytest.mark.parametrize("spoken", LANGUAGES)
@pytest.mark.parametrize("code", CODES)
def test_a_problem_says_what_it_speaks(code: str, spoken: str) -> None:
    _, headers, _ = problem_response(code, instance="/", correlation_id=None, language=spoken)
    assert (b"content-language", spoken.encode()) in headers
    assert (b"vary", b"Accept-Language") in headers


def _of(body: type[Body], sent: object) -> list[tuple[str, str, str]]:
    try:
        body.model_validate(sent)
    except ValidationError as refused:
        return [(one.field, one.code, told(one.message, "es")) for one in of_pydantic(refused.errors())]
    return []


def test_fields_have_stable_codes_and_words_of_our_own() -> None:
    ana = {"email": "a@example.com", "password": "long enough!", "firstName": "Ana", "lastName": "Ruiz"}
    assert _of(bodies.RegisterBody, {**ana, "firstName": " "}) == [
        ("firstName", "BLANK", "Este campo no puede estar en blanco")
    ]
    assert _of(bodies.RegisterBody, {**ana, "language": "fr"}) == [
        ("language", "NOT_ONE_OF", "Debe ser uno de estos valores: 'en', 'es'")
    ]
    assert _of(bodies.RegisterBody, {**ana, "nick": 1})[0][1] == "UNKNOWN_FIELD"
    assert _of(bodies.UserPatch, {})[0][1] == "NO_CHANGE"
    product = {"name": "Coffee", "sku": "c", "price": 1}
    assert [one[1] for one in _of(ProductBody, {**product, "price": -1, "currency": "usd", "tags": [""]})] == [
        "TOO_SMALL", "WRONG_FORM", "TOO_SHORT",
    ]  # fmt: skip
    assert _of(ProductBody, {**product, "attributes": {"a": [[[[[[[[[1]]]]]]]]]}})[0][1] == "TOO_DEEP"


@pytest.mark.parametrize(
    ("said", "field", "code"),
    [
        ("Object missing required field `items`", "items", "MISSING"),
        ("Object missing required field `quantity` - at `$.items[0]`", "items[0].quantity", "MISSING"),
        ("Object contains unknown field `a` - at `$.items[0]`", "items[0].a", "UNKNOWN_FIELD"),
        ("Expected `object`, got `array`", "body", "NOT_AN_OBJECT"),
        ("Expected `array` of length <= 1000 - at `$.items`", "items", "TOO_MANY"),
        ("Expected `array` of length >= 1 - at `$.items`", "items", "TOO_FEW"),
        ("Invalid UUID - at `$.items[0].productId`", "items[0].productId", "NOT_A_UUID"),
        ("Expected `int` >= 1 - at `$.items[0].quantity`", "items[0].quantity", "TOO_SMALL"),
        ("Expected `int` <= 1000000 - at `$.items[0].quantity`", "items[0].quantity", "TOO_LARGE"),
        ("Expected `int`, got `float` - at `$.items[0].quantity`", "items[0].quantity", "NOT_AN_INTEGER"),
        ("Expected `str | null`, got `int` - at `$.paymentMethod`", "paymentMethod", "NOT_A_TEXT"),
        ("Expected `str` of length <= 100 - at `$.paymentMethod`", "paymentMethod", "TOO_LONG"),
        ("Expected `str` of length <= 50 - at `key` in `$.shippingAddress`", "shippingAddress", "TOO_LONG"),
        ("Something new - at `$.notes`", "notes", INVALID),
    ],
)
def test_an_orders_fields_have_the_same_codes(said: str, field: str, code: str) -> None:
    found = of_msgspec(said)
    assert (found.field, found.code) == (field, code)
