"""From the bytes of a request to what is asked, or one error that says what is wrong with them."""

from __future__ import annotations

import asyncio
import json
from typing import Any, NoReturn, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.types import Scope

from lengthwise._utils.messages import first_line
from lengthwise.serving.errors import ApiError, quoted, unknown_field
from lengthwise.serving.protocol import LABELS, UNSERVED, Message

Asked = TypeVar("Asked", bound=BaseModel)

# What may stand in fields that are written in several ways.
UNIONS = {
    "content": "allowed are a text, and a list of parts of type text",
    "prompt": "allowed are a text, token ids, a list of texts, and a list of lists of token ids",
    "stop": "allowed are a text of 1 to 1,000 characters, and a list of at most 16 of them",
}
# A body that was refused is read on for as long, so that its client can come to the answer.
LINGER_S = 2.0
# Set in the scope of a request whose body was read.
READ = "lengthwise.read"


async def read_body(request: Request, most: int, seconds: float) -> bytes:
    """The body of a request, refused while it arrives where it is too large.

    Args:
        request: whose body was not read yet.
        most: bytes.
        seconds: until all of it has to be there.

    Raises:
        ApiError: 413 for more bytes, 408 for more seconds, 400 for no length.
        ClientDisconnect: where the client left.
    """
    too_large = ApiError(
        413, "body_too_large", f"the body has more than {most:,} bytes, the most that is read here"
    )
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > most:
        raise too_large
    found = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.stream():
                found += chunk
                if len(found) > most:
                    raise too_large
    except TimeoutError:
        raise ApiError(
            408, "body_too_slow", f"the body was not there after {seconds:g} seconds"
        ) from None
    request.scope[READ] = True
    return bytes(found)


def is_unread(scope: Scope) -> bool:
    """Whether a request has a body that nobody has read to its end.

    Args:
        scope: of the request.
    """
    names = {name for name, _ in scope["headers"]}
    return not scope.get(READ) and bool(names & {b"content-length", b"transfer-encoding"})


async def drain(request: Request) -> None:
    """Takes and forgets what is still being sent of a refused body, for a moment.

    Args:
        request: whose answer is on its way already.
    """
    try:
        async with asyncio.timeout(LINGER_S):
            async for _ in request.stream():
                pass
    except (TimeoutError, ClientDisconnect, RuntimeError):
        pass


def require_json(request: Request) -> None:
    """Refuses other content: a foreign page can send a form to this machine, but not JSON.

    Args:
        request: of any kind.

    Raises:
        ApiError: 415.
    """
    given = request.headers.get("content-type", "")
    if given.partition(";")[0].strip().lower() != "application/json":
        raise ApiError(415, "no_json", f"Content-Type is {quoted(given)}; send 'application/json'")


def parse_json(body: bytes) -> dict[str, Any]:
    """The JSON object of a body.

    Args:
        body: as it was sent.

    Raises:
        ApiError: for what is no UTF-8, no JSON or no object, with the place.
    """
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ApiError(
            400, "invalid_utf8", f"the body is no UTF-8: byte {error.start} is "
            f"0x{body[error.start]:02x} ({error.reason})",
        ) from None  # fmt: skip
    if not text.strip():
        raise ApiError(400, "empty_body", "the body is empty; send a JSON object")
    try:
        found = json.loads(text, parse_constant=_no_number)
    except json.JSONDecodeError as error:
        raise ApiError(
            400, "invalid_json",
            f"the body is no JSON: {error.msg} at line {error.lineno}, column {error.colno}",
        ) from None  # fmt: skip
    except RecursionError:
        raise ApiError(400, "invalid_json", "the body is JSON of too many levels") from None
    except ValueError as error:
        raise ApiError(400, "invalid_json", f"the body is no JSON: {first_line(error)}") from None
    if not isinstance(found, dict):
        raise ApiError(
            400, "invalid_json", f"the body is a JSON {_kind(found)}; send an object"
        )  # fmt: skip
    return found


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _kind(value: object) -> str:
    names = {list: "array", str: "string", bool: "boolean", type(None): "null"}
    return names.get(type(value), "number")


def read_as(kind: type[Asked], given: dict[str, Any]) -> Asked:
    """What a JSON object asks for.

    Args:
        kind: of request.
        given: the object.

    Raises:
        ApiError: 400 for the first field that is unknown, not served, or of a wrong value.
    """
    known = kind.model_fields
    asked: dict[str, Any] = {}
    for name, value in given.items():
        if name in known:
            asked[name] = value
        elif name in UNSERVED:
            if not UNSERVED[name](value):
                raise ApiError(
                    400, "unsupported_field",
                    f"{name}={quoted(value)} is not served here; leave {name} out", name,
                )  # fmt: skip
        elif name not in LABELS:
            raise unknown_field(name, sorted(known))
    try:
        return kind.model_validate(asked)
    except ValidationError as error:
        raise _wrong(error) from None


def _wrong(error: ValidationError) -> ApiError:
    """The first thing that pydantic found, in a sentence."""
    # Of the ways that a value may be written, the one that went furthest is what was meant.
    found = max(error.errors(include_url=False), key=lambda each: len(each["loc"]))
    place = [part for part in found["loc"] if not _is_branch(part)]
    param = _path(place)
    if found["type"] == "missing":
        return ApiError(400, "missing_field", f"{param} is missing; it is required", param)
    if found["type"] == "extra_forbidden":
        return _extra(place, param)
    if found["type"] == "none_required" or param.endswith((".tool_calls", ".annotations")):
        said = f"{param}={quoted(found['input'])} is not served here; leave it out"
        return ApiError(400, "unsupported_field", said, param)
    if found["type"] == "string_unicode":
        return ApiError(400, "invalid_value", f"{param} holds half of a character (a lone "
                        "surrogate), which is no text; send UTF-8", param)  # fmt: skip
    said = found["msg"][:1].lower() + found["msg"][1:]
    if len(place) < len(found["loc"]):
        said = UNIONS.get(param.rpartition(".")[2], said)
    return ApiError(400, "invalid_value", f"{param}={quoted(found['input'])}: {said}", param)


def _extra(place: list[Any], param: str) -> ApiError:
    where, name = _path(place[:-1]), str(place[-1])
    known = sorted(Message.model_fields) if where.startswith("messages") else ["include_usage"]
    return unknown_field(name, known, where)


def _is_branch(part: int | str) -> bool:
    """Whether a part of pydantic's path names a member of a union, and no field."""
    return isinstance(part, str) and (
        "[" in part or part.startswith("constrained-") or part in ("str", "TextPart")
    )


def _path(place: list[Any]) -> str:
    found = ""
    for part in place:
        found += f"[{part}]" if isinstance(part, int) else f".{part}" if found else str(part)
    return found
