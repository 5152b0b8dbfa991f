"""What went wrong with a call over HTTP, in the one shape of OpenAI's errors.

{"error": {"message": ..., "type": ..., "param": ..., "code": ...}}
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any

from lengthwise._utils.suggestions import did_you_mean
from lengthwise.errors import (
    ConstraintError,
    LengthwiseError,
    NotFinite,
    OutOfMemory,
    RecipeError,
    Refused,
)
from lengthwise.serving.engine import Closing, QueueFull
from lengthwise.serving.scheduler import EngineFailed

LOG = logging.getLogger("lengthwise.serving")
INVALID = "invalid_request_error"
OURS = "server_error"
# Of what a client sent, an error repeats no more than this.
SHOWN = 300


class ApiError(Exception):
    """A call that is answered with an error.

    status: of HTTP. code: a word for programs. param: the field that is wrong, where it is one.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status, code, message, param)
        self.status, self.code, self.param = status, code, param
        self.message = shortened(message)
        self.headers = dict(headers or {})

    @property
    def kind(self) -> str:
        """The type of OpenAI's that fits the status."""
        named = {401: "authentication_error", 403: "permission_error", 404: "not_found_error",
                 429: "rate_limit_error"}  # fmt: skip
        return named.get(self.status, INVALID if self.status < 500 else OURS)

    def content(self) -> dict[str, Any]:
        """The error object, as it is written in JSON."""
        return {
            "error": {
                "message": self.message, "type": self.kind, "param": self.param, "code": self.code,
            }
        }  # fmt: skip

    def body(self) -> bytes:
        """The error object in ASCII, which holds whatever a client sent."""
        return json.dumps(self.content()).encode()


def shortened(message: str) -> str:
    """A message in which no word is so long that it hides the others.

    Args:
        message: which may repeat what a client sent.
    """
    cut = re.sub(r"\S{300,}", lambda word: f"{word[0][:60]}...{word[0][-20:]}", message)
    return cut if len(cut) <= 2000 else f"{cut[:1980]} ..."


def quoted(value: object) -> str:
    """What a client sent, as an error repeats it.

    Args:
        value: of any size.
    """
    found = json.dumps(value) if isinstance(value, (str, int, float, bool)) else repr(value)
    return found if len(found) <= SHOWN else f"{found[: SHOWN - 20]}...{found[-10:]}"


def api_error(error: BaseException, param: str | None = None) -> ApiError:
    """The answer to an error of the library's.

    Args:
        error: a LengthwiseError says what the client can mend; anything else is ours.
        param: the field that caused it, where that is known.
    """
    if isinstance(error, ApiError):
        return error
    if isinstance(error, QueueFull):
        wait = str(max(1, round(error.retry_after_s)))
        return ApiError(429, "queue_full", str(error), headers={"Retry-After": wait})
    if isinstance(error, Closing):
        return ApiError(503, "closing", str(error))
    if isinstance(error, Refused):
        return ApiError(422, "refused", str(error), param)
    if isinstance(error, RecipeError):
        return ApiError(422, "recipe_invalid", str(error), param or "recipe")
    if isinstance(error, OutOfMemory):
        return ApiError(503, "out_of_memory", str(error), param, {"Retry-After": "5"})
    if isinstance(error, NotFinite):
        return ApiError(500, "not_finite", str(error), param)
    if isinstance(error, ConstraintError):
        return ApiError(422, "constraint", str(error), param)
    if isinstance(error, LengthwiseError) and not isinstance(error, EngineFailed):
        return ApiError(400, "invalid_value", str(error), param)
    LOG.error("a call failed", exc_info=error)
    return ApiError(500, "internal_error", "the server failed; its log says where")


def unknown_field(name: str, known: Sequence[str], where: str = "") -> ApiError:
    """The answer to a field that there is not.

    Args:
        name: as it was sent.
        known: what there is.
        where: the object it stands in; "" for the outermost.
    """
    near = did_you_mean(name, known, f"; known are {', '.join(known)}")
    inside = f" of {where}" if where else ""
    param = f"{where}.{name}" if where else name
    return ApiError(400, "unknown_field", f"{quoted(name)} is no field{inside}{near}", param)
