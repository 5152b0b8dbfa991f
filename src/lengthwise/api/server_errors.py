"""What can go wrong at a server, each in one line: what it said, and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from lengthwise.errors import LengthwiseError, ModelError

# What a server says of an endpoint or a field that it does not have.
_REFUSALS = (400, 404, 405, 422, 501)
_OF_PROMPT = (400, 413, 422)
_REMEDIES = {
    401: "set OPENAI_API_KEY",
    403: "set OPENAI_API_KEY to one that may ask this",
    404: "see whether the address ends in /v1, and which models it has",
    413: "give a smaller budget",
    429: "it stayed busy however often it was asked; wait, or ask less at once",
}


class ServerError(ModelError):
    """A server does not answer, answers nonsense or refuses: what it said, and what to do.

    refused: whether it understood what was asked, and does not do it. status: of HTTP, where it
    answers with one.
    """

    refused = False
    status: int | None = None

    @property
    def of_prompt(self) -> bool:
        """Whether it is about what was sent (too long, say): another prompt may be answered."""
        return self.status in _OF_PROMPT


class Nonsense(Exception):
    """An answer that is none."""


@contextmanager
def asked_once(url: str) -> Iterator[None]:
    """Says what went wrong at a server that is not asked again.

    Args:
        url: of it.
    """
    try:
        with named(url):
            yield
    except Nonsense as error:
        raise ServerError(
            f"{url} does not answer as OpenAI's servers do: {error}; see whether the address ends "
            "in /v1"
        ) from error


@contextmanager
def named(url: str) -> Iterator[None]:
    """Says what went wrong at a server, in one line.

    Args:
        url: of it.

    Raises:
        Nonsense: for an answer that is none, which may come right when it is asked again.
        ServerError: for everything else.
    """
    import openai

    try:
        yield
    except openai.APITimeoutError as error:
        raise ServerError(
            f"{url} did not answer in time, however often it was asked; see whether it is busy"
        ) from error
    except openai.APIStatusError as error:
        _refused(url, error)
    except openai.APIResponseValidationError as error:
        raise Nonsense(short(error)) from error
    except openai.APIConnectionError as error:
        raise ServerError(
            f"no server answers at {url} ({short(error.__cause__ or error)}); start it, or see "
            "whether the address is right"
        ) from error
    except openai.APIError as error:
        raise ServerError(f"{url}: {short(error)}") from error
    except LengthwiseError:
        raise
    except Exception as error:  # whatever an answer that is none makes the client run into
        raise Nonsense(short(error)) from error


def _refused(url: str, error: Any) -> NoReturn:
    status = error.status_code
    said = short(error.message)
    other = "see what the server logs" if status >= 500 else "change what is asked"
    remedy = _REMEDIES.get(status, other)
    found = ServerError(f"{url} answers {status}: {said}; {remedy}")
    found.refused, found.status = status in _REFUSALS, status
    raise found from error


def short(error: object) -> str:
    """An error in a few words.

    Args:
        error: any.
    """
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else f"{text[:197]}..."


__all__ = ["Nonsense", "ServerError", "asked_once", "named", "short"]
