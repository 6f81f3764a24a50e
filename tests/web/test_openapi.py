"""The description of the API: it is the committed one, and it names every operation once with its role."""

from __future__ import annotations

import pytest

from tests.repository import ROOT
from vibe.web import openapi
from vibe.web.api import ROUTES
from vibe.web.routing import Role, Route
from vibe.web.server import ALIASES

COMMITTED = ROOT / "docs/api/openapi.json"


def test_the_committed_document_is_that_of_the_code() -> None:
    assert COMMITTED.read_bytes() == openapi.text(ROUTES), "write it anew: python -m vibe.web.openapi"


def test_every_operation_has_a_name_of_its_own() -> None:
    names = [route.operation for route in ROUTES]
    assert len(names) == len(set(names))
    assert set(ALIASES.values()) <= set(names)


@pytest.mark.parametrize("route", [route for route in ROUTES if route.changes], ids=lambda route: route.operation)
def test_what_changes_something_needs_more_than_to_read(route: Route) -> None:
    own = {"signIn": Role.PUBLIC, "signOut": Role.VIEWER, "endSession": Role.VIEWER, "testConfig": Role.VIEWER}
    assert route.role >= own.get(route.operation, Role.OPERATOR)


def test_times_and_integers_have_formats() -> None:
    schemas = openapi.document(ROUTES)["components"]["schemas"]
    assert schemas["Copy"]["properties"]["decided_at"]["format"] == "date-time"
    assert schemas["Copy"]["properties"]["share_micros"]["format"] == "int64"
    assert {"format": "date-time", "type": "string"} in schemas["Engine"]["properties"]["since"]["anyOf"]
