"""The contracts of the API: the OpenAPI document, and the JSON Schema of every event in the log."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from handlers.live.event_codec import ALL
from vibe.web import openapi
from vibe.web.routing import Call, Role, Routes

routes = Routes("contracts")


@routes.get("/openapi.json", "getOpenApi", role=Role.PUBLIC)
async def get_openapi(call: Call) -> dict[str, Any]:
    """This document."""
    from vibe.web.api import ROUTES

    return await call.site.cached("openapi", 1e9, lambda: asyncio.to_thread(openapi.document, ROUTES))


@routes.get("/schemas", "getEventSchemas")
async def get_schemas(call: Call) -> dict[str, Any]:
    """The JSON Schema of the facts of every event in the log, by stored name."""
    return event_schemas()


def event_schemas() -> dict[str, Any]:
    """JSON Schema 2020-12 by stored name."""
    return {
        name: {"$schema": "https://json-schema.org/draft/2020-12/schema", **msgspec.json.schema(kind)}
        for name, kind in sorted(ALL.items())
    }
