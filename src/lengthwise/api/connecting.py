"""`lengthwise.connect`: a model behind an OpenAI-compatible server, by its address."""

from __future__ import annotations

import os
from typing import Any

from lengthwise.api.remote_model import RemoteModel
from lengthwise.api.server_errors import ServerError, asked_once
from lengthwise.errors import LengthwiseError, ModelError
from lengthwise.models.embedded import embedded_tokenizer

PREFIX = "openai:"
# Times that a failing server is asked again, and seconds without an answer after which it is.
RETRIES, TIMEOUT_S = 5, 600.0


def connect(
    url: str, model: str | None = None, *, tokenizer: str | None = None,
    api_key: str | None = None, retries: int = RETRIES, timeout_s: float = TIMEOUT_S,
) -> RemoteModel:  # fmt: skip
    """A model behind an OpenAI-compatible server.

    Args:
        url: of its interface, such as "http://127.0.0.1:8000/v1".
        model: its name there; None is the first that the server lists.
        tokenizer: of the model, to count tokens with: a local folder or a hub name. None takes that
            of the embedded model, and says so.
        api_key: None is what OPENAI_API_KEY says, if anything.
        retries: how often a server that fails is asked again, after longer and longer waits.
        timeout_s: seconds without a word after which it has failed.

    Raises:
        ServerError: where no server answers, or it does not have the model.
        LengthwiseError: for an address that is none.
    """
    try:
        from openai import OpenAI
    except ImportError as error:
        raise LengthwiseError(
            "a model behind a server needs the package openai: pip install 'lengthwise[openai]'"
        ) from error
    if not url.startswith(("http://", "https://")):
        raise LengthwiseError(f"{url!r} is no address: give one such as http://127.0.0.1:8000/v1")
    key = api_key or os.environ.get("OPENAI_API_KEY") or "none"
    client = OpenAI(base_url=url, api_key=key, max_retries=retries, timeout=timeout_s)
    with asked_once(url):
        listed = list(client.models.list())
    names = [each.id for each in listed]
    if not names or (model is not None and model not in names):
        raise ServerError(
            f"{url} has no model {model!r}; it has {', '.join(names[:20])}" if names
            else f"{url} lists no model"
        )  # fmt: skip
    found = listed[0 if model is None else names.index(model)]
    told = found.model_extra or {}
    length = next((told[k] for k in ("max_model_len", "trained_length") if told.get(k)), None)
    length = length if isinstance(length, int) and length > 0 else None
    loaded = embedded_tokenizer() if tokenizer is None else _tokenizer(tokenizer)
    return RemoteModel(client, found.id, length, loaded, own=tokenizer is not None)


def remote(name: str | None, tokenizer: str | None = None) -> RemoteModel | None:
    """The model that a name such as "openai:http://127.0.0.1:8000/v1#name" speaks of; None for one
    that runs here.

    Args:
        name: as it is given to --model.
        tokenizer: as it is given to --tokenizer.

    Raises:
        LengthwiseError: as `connect` does.
    """
    if name is None or not name.startswith(PREFIX):
        return None
    url, _, model = name.removeprefix(PREFIX).partition("#")
    return connect(url, model or None, tokenizer=tokenizer)


def _tokenizer(name: str) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise ModelError(f"no tokenizer can be read from {name!r}: {error}") from error


__all__ = ["PREFIX", "RETRIES", "TIMEOUT_S", "connect", "remote"]
