"""Problems in Spanish, as a client meets them, wherever they are made."""

from typing import Any
from uuid import uuid4

import pytest

from api_client import Client, Reply

SPANISH = {"Accept-Language": "es-MX, en;q=0.7"}
LINE = {"productId": str(uuid4()), "quantity": 1}


def _speaks(reply: Reply, language: str) -> None:
    assert reply.headers["Content-Language"] == language
    assert reply.headers.getall("Vary") == ["Accept-Language"]


async def test_each_maker_of_problems_speaks_spanish(api: Client) -> None:
    admin, customer = await api.person("admin"), await api.person()
    asked: list[tuple[str, str, Any, str | None, str]] = [
        ("GET", "/api/v1/nowhere", None, None, "Aquí no hay nada"),
        ("PUT", "/api/v1/orders", None, None, "Este método no está permitido aquí"),
        ("GET", "/api/v1/users", None, None, "Se requiere un token de acceso válido"),
        ("GET", "/api/v1/users", None, customer.token, "El rol de esta cuenta no lo permite"),
        ("POST", "/api/v1/auth/login", {"email": "x@example.com", "password": "x"}, None,
         "El correo electrónico o la contraseña no son correctos"),
        ("POST", "/api/v1/orders", {"items": [LINE]}, None,
         "Primero hay que iniciar sesión y enviar `Authorization: Bearer <accessToken>`."),
        ("POST", "/api/v1/orders", {"items": [LINE]}, customer.token, f"No existe el producto: {LINE['productId']}"),
        ("POST", "/api/v1/orders", {"items": []}, customer.token, "items: Se necesitan como mínimo 1"),
        ("POST", "/api/v1/categories", {"name": "a", "slug": "a", "parentId": LINE["productId"]}, admin.token,
         f"No existe la categoría superior: {LINE['productId']}"),
    ]  # fmt: skip
    for method, path, body, token, said in asked:
        reply = await api.ask(method, path, token=token, json=body, headers=SPANISH)
        assert (path, reply.body["detail"]) == (path, said)
        _speaks(reply, "es")
        _speaks(await api.ask(method, path, token=token, json=body), "en")


async def test_what_the_edge_refuses_it_refuses_in_spanish(api: Client) -> None:
    reply = await api.ask("POST", "/api/v1/orders", data=b"x", headers={**SPANISH, "Content-Encoding": "gzip"})
    assert (reply.status, reply.body["title"]) == (415, "Este tipo de contenido no se acepta aquí")
    _speaks(reply, "es")


async def test_fields_are_judged_in_spanish_under_the_same_codes(api: Client) -> None:
    body = {"email": "nobody", "password": "long enough!", "lastName": "Ruiz", "nick": "a"}
    spanish = await api.ask("POST", "/api/v1/auth/register", json=body, headers=SPANISH)
    english = await api.ask("POST", "/api/v1/auth/register", json=body)
    assert spanish.body["errors"] == [
        {"field": "email", "code": "NOT_AN_EMAIL", "message": "Esto no es una dirección de correo electrónico"},
        {"field": "firstName", "code": "MISSING", "message": "Este campo es obligatorio"},
        {"field": "nick", "code": "UNKNOWN_FIELD", "message": "Este campo no se conoce"},
    ]
    assert [(one["field"], one["code"]) for one in spanish.body["errors"]] == [
        (one["field"], one["code"]) for one in english.body["errors"]
    ]
    assert english.body["errors"][1]["message"] == "This field is required"
    query = await api.get("/api/v1/products?limit=x&page=0", headers=SPANISH)
    assert {(one["field"], one["code"]) for one in query.body["errors"]} == {
        ("limit", "NOT_AN_INTEGER"),
        ("page", "TOO_SMALL"),
    }


@pytest.mark.parametrize(
    ("accepted", "spoken", "title", "advice"),
    [
        ("es", "es", "Ya existe un producto con este SKU", "elegir otro SKU"),
        ("en, es;q=0.5", "en", "There is a product with this SKU", "take another SKU"),
        ("fr", "en", "There is a product with this SKU", "take another SKU"),
    ],
)
async def test_the_page_of_a_problem_is_there_in_both(
    api: Client, accepted: str, spoken: str, title: str, advice: str
) -> None:
    reply = await api.get("/api/v1/problems/sku-taken", headers={"Accept-Language": accepted})
    assert (reply.status, reply.body["title"], reply.body["code"]) == (200, title, "SKU_TAKEN")
    assert advice in reply.body["explanation"]
    _speaks(reply, spoken)
