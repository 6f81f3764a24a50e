"""The OpenAPI 3.1 document of the API, made from the routes and their structs; `docs/api/openapi.json` is a copy."""

from __future__ import annotations

import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct, inspect

from vibe.web.problems import MEDIA_TYPE, ProblemDocument
from vibe.web.routing import Role, Route

_REFERENCE = "#/components/schemas/{name}"
_PATTERN = re.compile(r"\{(\w+):(?:[^{}]|\{[^{}]*\})*\}")


def document(routes: list[Route]) -> dict[str, Any]:
    """The document of these routes, in their order."""
    kinds: list[Any] = [ProblemDocument]
    for route in routes:
        kinds += [route.returns, *([route.body] if route.body is not None else [])]
    found, components = msgspec.json.schema_components(kinds, ref_template=_REFERENCE)
    for kind in _structs(kinds):
        _add_time_formats(kind, components.get(kind.__name__))
    schema_of = {repr(kind): schema for kind, schema in zip(kinds, found, strict=True)}
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        path = "/api/v1" + _PATTERN.sub(r"{\1}", route.path)
        paths.setdefault(path, {})[route.method.lower()] = _operation(route, schema_of)
    made = {
        "openapi": "3.1.0",
        "info": {
            "title": "Vibe Copy Trading",
            "version": version("vibe-copy-trading-core"),
            "description": (
                "Amounts named _micros are integers of 1e-6 of a dollar, a share or a fraction. Refusals are problem "
                "documents (RFC 9457). The ETag of an answer is the position of its read models."
            ),
        },
        "servers": [{"url": "/"}],
        "security": [{"apiKey": []}, {"session": []}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "apiKey": {"type": "http", "scheme": "bearer"},
                "session": {"type": "apiKey", "in": "cookie", "name": "vibe_8080"},
            },
            "responses": {"Problem": _problem()},
        },
    }
    whole: dict[str, Any] = _with_widths(made)
    return whole


def _structs(kinds: list[Any]) -> list[type[Struct]]:
    """Every struct that occurs in the kinds."""
    found: dict[type[Struct], None] = {}

    def visit(info: Any) -> None:
        if isinstance(info, inspect.StructType):
            if info.cls in found:
                return
            found[info.cls] = None
        for value in (getattr(info, name) for name in getattr(info, "__struct_fields__", ())):
            for each in value if isinstance(value, tuple) else (value,):
                if isinstance(each, inspect.Type | inspect.Field):
                    visit(each)

    for info in inspect.multi_type_info(kinds):
        visit(info)
    return list(found)


def _add_time_formats(kind: type[Struct], schema: dict[str, Any] | None) -> None:
    """msgspec names the format of a time only where it is annotated; here every time has a zone."""
    for field in inspect.type_info(kind).fields if schema is not None else ():  # type: ignore[attr-defined]
        types = field.type.types if isinstance(field.type, inspect.UnionType) else (field.type,)
        if any(isinstance(each, inspect.DateTimeType) for each in types):
            shape = schema["properties"][field.encode_name]  # type: ignore[index]
            for each in shape.get("anyOf", (shape,)):
                if each.get("type") == "string":
                    each["format"] = "date-time"


def _operation(route: Route, schema_of: dict[str, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": route.operation,
        "summary": route.summary,
        "tags": [route.tag],
        "parameters": _parameters(route),
        "responses": _responses(route, schema_of),
    }
    if route.role is Role.PUBLIC:
        operation["security"] = []
    else:
        operation["description"] = f"Needs the role {route.role.text}."
    if route.body is not None:
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": schema_of[repr(route.body)]}},
        }
    return operation


def _parameters(route: Route) -> list[dict[str, Any]]:
    found = []
    in_path = set(re.findall(r"\{(\w+)", route.path))
    (schema,), components = msgspec.json.schema_components([route.asked], ref_template=_REFERENCE)
    shape_of = components[schema["$ref"].rpartition("/")[2]]
    _add_time_formats(route.asked, shape_of)
    for name, shape in shape_of["properties"].items():
        required = name in in_path or name in shape_of.get("required", ())
        place = "path" if name in in_path else "query"
        found.append({"name": name, "in": place, "required": required, "schema": _given(shape)})
    if route.method == "GET":
        if route.reads or route.live:
            found.append(_query("after", "wait until the answer holds this place in the log", _PLACE))
            found.append(_query("wait", "seconds to wait for a change of the ETag in If-None-Match", _SECONDS))
    elif route.method == "PUT" or route.operation == "storeLines":
        found.append(
            {
                "name": "If-Match",
                "in": "header",
                "required": True,
                "description": "the ETag of the configuration that the change was made on",
                "schema": {"type": "string", "pattern": r'^(W/)?"CONFIG:\d{1,18}"$'},
            }
        )
    return found


def _given(shape: dict[str, Any]) -> dict[str, Any]:
    """The schema of a parameter that is given: an absent one is null."""
    given = [each for each in shape.get("anyOf", ()) if each.get("type") != "null"]
    if not given:
        return shape
    found = given[0] if len(given) == 1 else {"anyOf": given}
    return {**found, "type": "string"} if "enum" in found else found


_SECONDS = {"type": "number", "minimum": 0, "maximum": 30}
_PLACE = {"type": "string", "pattern": r"^[A-Z]{2,20}:\d{1,18}$"}


def _query(name: str, text: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "description": text, "schema": schema}


def _responses(route: Route, schema_of: dict[str, Any]) -> dict[str, Any]:
    schema = schema_of[repr(route.returns)]
    answer = {"description": route.summary, "content": {"application/json": {"schema": schema}}}
    found: dict[str, Any] = {route.status: answer}
    if route.operation == "getHealth":
        found["503"] = answer
    if route.reads or route.live:
        found["304"] = {"description": "Nothing has changed since the answer with the ETag of If-None-Match."}
    found["default"] = {"$ref": "#/components/responses/Problem"}
    return found


def _problem() -> dict[str, Any]:
    reference = {"$ref": _REFERENCE.format(name="ProblemDocument")}
    return {"description": "What is wrong, and what to do.", "content": {MEDIA_TYPE: {"schema": reference}}}


def _with_widths(value: Any) -> Any:
    """Integers are int64."""
    if isinstance(value, dict):
        made = {name: _with_widths(each) for name, each in value.items()}
        if made.get("type") == "integer":
            made.setdefault("format", "int64")
        return made
    return [_with_widths(each) for each in value] if isinstance(value, list) else value


def text(routes: list[Route]) -> bytes:
    """The document as it is committed: two spaces, a line feed at the end."""
    return msgspec.json.format(msgspec.json.encode(document(routes)), indent=2) + b"\n"


def write(path: Path) -> None:
    """Write the document of all routes to a file."""
    from vibe.web.api import ROUTES

    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text(ROUTES))


if __name__ == "__main__":
    write(Path(__file__).parents[2] / "docs/api/openapi.json")
