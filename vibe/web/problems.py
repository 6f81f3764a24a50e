"""ProblemError documents (RFC 9457): every refusal of the API names what is wrong and what to do.

ProblemError
├── BadRequestError        400
├── NotSignedInError       401
├── NotAllowedError        403
├── NotFoundError          404
├── MethodNotAllowedError  405
├── ConflictError          409
├── ChangedError           412: a stale If-Match
├── TooLargeError          413
├── WrongMediaError        415
├── UnprocessableError     422: facts that configuration refuses, line by line
├── MatchRequiredError     428
├── TooManyError           429
└── UnavailableError       503
"""

import msgspec
from aiohttp import web
from msgspec import Struct

MEDIA_TYPE = "application/problem+json"


class ProblemDocument(Struct, frozen=True, omit_defaults=True):
    """The body of every refusal. `errors` names each bad field or line; `request_id` is in the server's log."""

    type: str
    title: str
    status: int
    detail: str
    request_id: str = ""
    errors: tuple[str, ...] = ()


class ProblemError(Exception):
    """A refusal: `status` and `title` by class, `detail` a sentence that says what to do."""

    status = 500
    title = "The server failed"

    def __init__(self, detail: str, *, errors: tuple[str, ...] = (), headers: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = errors
        self.headers = headers or {}


class BadRequestError(ProblemError):
    status = 400
    title = "The request cannot be read"


class NotSignedInError(ProblemError):
    status = 401
    title = "Sign in first"


class NotAllowedError(ProblemError):
    status = 403
    title = "This is not allowed"


class NotFoundError(ProblemError):
    status = 404
    title = "Nothing is there"


class MethodNotAllowedError(ProblemError):
    status = 405
    title = "The path does not take this method"


class ConflictError(ProblemError):
    status = 409
    title = "The state does not allow this"


class ChangedError(ProblemError):
    status = 412
    title = "It was changed meanwhile"


class TooLargeError(ProblemError):
    status = 413
    title = "The body is too large"


class WrongMediaError(ProblemError):
    status = 415
    title = "The body must be JSON"


class UnprocessableError(ProblemError):
    status = 422
    title = "The facts are refused"


class MatchRequiredError(ProblemError):
    status = 428
    title = "A version is needed"


class TooManyError(ProblemError):
    status = 429
    title = "Too many requests"


class UnavailableError(ProblemError):
    status = 503
    title = "A server does not answer"


def response_of(problem: ProblemError, request_id: str) -> web.Response:
    """The answer to a refused request."""
    document = ProblemDocument(
        type=f"about:blank#{type(problem).__name__.removesuffix('Error')}",
        title=problem.title,
        status=problem.status,
        detail=problem.detail,
        request_id=request_id,
        errors=problem.errors,
    )
    return web.Response(
        status=problem.status,
        body=msgspec.json.encode(document),
        headers={"Content-Type": MEDIA_TYPE, "Cache-Control": "no-store", **problem.headers},
    )
