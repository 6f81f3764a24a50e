"""Routes of the API: a handler is an async function over structs, declared once for the server and for OpenAPI.

    @routes.get("/influencers/{influencer_id}", "getInfluencer", reads=("influencer",))
    async def influencer(call: Call, asked: ById) -> InfluencerMetrics: ...

`asked` is a struct of the parameters in path and query, `body` one of the JSON body; either may be absent. What the
handler returns is encoded as JSON. `reads` names the read models that the answer depends on: they make its ETag.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Generic, TypeVar, get_type_hints

import msgspec
from aiohttp import web
from msgspec import Struct

from vibe.web.problems import BadRequestError

if TYPE_CHECKING:
    from vibe.web.checks import Checks
    from vibe.web.identity import Identity
    from vibe.web.site import Site

T = TypeVar("T")


class Role(IntEnum):
    """What an identity may do: everything that a smaller role may, and more."""

    PUBLIC = 0
    VIEWER = 1
    OPERATOR = 2
    ADMIN = 3

    @property
    def text(self) -> str:
        return self.name.lower()


ROLES = {role.text: role for role in Role if role is not Role.PUBLIC}


@dataclass
class Answer:
    """What a handler sets beside the body. `session` is a token for the session cookie, '' to remove the cookie."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    session: str | None = None


@dataclass(frozen=True)
class Call:
    """One request: the servers that it may ask, who asks and from which address, and what the answer is to have."""

    site: Site
    request: web.Request
    checks: Checks
    identity: Identity | None
    answer: Answer = field(default_factory=Answer)

    @property
    def address(self) -> str:
        return self.checks.address(self.request)

    @property
    def who(self) -> Identity:
        """The identity of a call whose route is not public."""
        assert self.identity is not None, "a route with a role is called with an identity"
        return self.identity

    @property
    def actor(self) -> str:
        """Who an event names as its actor."""
        return self.identity.actor if self.identity is not None else ""


class Nothing(Struct, frozen=True, kw_only=True):
    """No parameters, or an empty body."""


class Page(Struct, Generic[T], frozen=True, kw_only=True):
    """Rows of a list. `next` is the cursor of the rows behind them, None at the end; `names` is what the assets and
    markets of the rows are called, where the venue gives them names."""

    items: list[T]
    next: str | None = None
    names: dict[str, str] = {}


@dataclass(frozen=True)
class Route:
    """One operation. `reads` are read models; `changes` is True where it stores something."""

    method: str
    path: str
    operation: str
    handler: Callable[..., Awaitable[Any]]
    asked: type[Struct]
    body: type[Struct] | None
    takes: frozenset[str]
    returns: Any
    role: Role
    reads: tuple[str, ...]
    minutely: bool
    live: bool
    status: str
    summary: str
    tag: str

    @property
    def changes(self) -> bool:
        return self.method != "GET"


class Routes:
    """The operations of one area."""

    def __init__(self, tag: str) -> None:
        self.tag = tag
        self.found: list[Route] = []

    def get(
        self,
        path: str,
        operation: str,
        *,
        reads: tuple[str, ...] = (),
        role: Role = Role.VIEWER,
        minutely: bool = False,
        live: bool = False,
    ) -> Callable[[T], T]:
        """Declare a question. `minutely` answers also change with the minute of the clock; `live` ones come from the
        configuration in memory, and their ETag is its place in CONFIG."""
        return self._declare("GET", path, operation, role, reads, minutely, live)

    def post(self, path: str, operation: str, *, role: Role, status: int = 200) -> Callable[[T], T]:
        """Declare an intent, which is answered with `status`."""
        return self._declare("POST", path, operation, role, status=status)

    def put(self, path: str, operation: str, *, role: Role) -> Callable[[T], T]:
        """Declare a replacement."""
        return self._declare("PUT", path, operation, role)

    def delete(self, path: str, operation: str, *, role: Role) -> Callable[[T], T]:
        """Declare a removal."""
        return self._declare("DELETE", path, operation, role)

    def _declare(
        self,
        method: str,
        path: str,
        operation: str,
        role: Role,
        reads: tuple[str, ...] = (),
        minutely: bool = False,
        live: bool = False,
        status: int = 200,
    ) -> Callable[[T], T]:
        def declared(handler: T) -> T:
            hints = get_type_hints(handler)
            summary = (getattr(handler, "__doc__", None) or operation).strip().partition("\n\n")[0]
            self.found.append(
                Route(
                    method=method,
                    path=path,
                    operation=operation,
                    handler=handler,  # type: ignore[arg-type]
                    asked=hints.get("asked", Nothing),
                    body=hints.get("body"),
                    takes=frozenset(hints) & {"asked", "body"},
                    returns=hints["return"],
                    role=role,
                    reads=reads,
                    minutely=minutely,
                    live=live,
                    status=str(status),
                    summary=" ".join(summary.split()),
                    tag=self.tag,
                )
            )
            return handler

        return declared


def parameters(kind: type[T], request: web.Request) -> T:
    """The parameters of a request as a `kind`. Raises BadRequestError with what is wrong, for unknown ones too."""
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}  # type: ignore[arg-type]
    given: dict[str, Any] = dict(request.match_info)
    for name in request.query:
        if name in COMMON:
            continue
        if name not in fields or name in request.match_info:
            known = ", ".join([*fields, *COMMON]) or "none"
            raise BadRequestError(f"parameter {name[:100]!r} is unknown; this path takes {known}")
        values = request.query.getall(name)
        if len(values) > 1:
            raise BadRequestError(f"parameter {name!r} is given {len(values)} times; give it once")
        if "\x00" in values[0]:
            raise BadRequestError(f"parameter {name!r} contains a zero byte, which no value may hold")
        given[name] = values[0]
    if any("\x00" in str(value) for value in given.values()):
        raise BadRequestError("the path contains a zero byte, which no id may hold")
    try:
        return msgspec.convert(given, kind, strict=False)
    except msgspec.ValidationError as error:
        raise BadRequestError(f"the parameters are refused: {error}") from error


COMMON = ("after", "wait")
"""Query parameters of every question: wait until the read models hold an event, or until the answer changes."""
