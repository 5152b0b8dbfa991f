"""A fast tokenizer of transformers by its name, as its own file says it, to save a model with.

`tokenization.opening` opens tokenizers of more kinds, to be asked and not to be saved.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from lengthwise._utils.embedded_file import EMBEDDED, download_gguf, find_gguf
from lengthwise._utils.gguf_tokenizer import load_gguf_tokenizer
from lengthwise._utils.hub import absent
from lengthwise._utils.messages import first_line
from lengthwise.errors import ModelError, TokenizerError
from lengthwise.tokenization.transplant.dressing import ROLES, backend_of

_ALLOWED = (
    "allowed are a tokenizer.json, a folder with one, a .gguf file, a hub name, or `embedded`"
)


def fast_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """A fast tokenizer.

    A class of transformers may build it otherwise than its file has it, so the file is what counts.
    Special tokens and chat template are those of `tokenizer_config.json` beside it. A special token
    that is not named there may be named in `special_tokens_map.json`.

    Args:
        name: a tokenizer.json, a folder with one, a .gguf file, a hub name, or `embedded`, the
            tokenizer of the embedded default model.

    Raises:
        TokenizerError: where there is none.
    """
    path = (find_gguf() or download_gguf()) if name == EMBEDDED else Path(name).expanduser()
    file = path / "tokenizer.json" if path.is_dir() else path
    if file.is_file():
        return _of_gguf(file) if file.suffix.lower() == ".gguf" else _of_file(file)
    if path.exists():
        raise TokenizerError(
            f"{name} holds no tokenizer.json: save one with a fast tokenizer; {_ALLOWED}"
        )
    if why := absent(name):
        raise TokenizerError(f"no tokenizer at {name!r} ({why}); {_ALLOWED}")
    try:
        found = AutoTokenizer.from_pretrained(name)
    except Exception as error:  # of the hub client, of its HTTP client, of the tokenizer
        raise TokenizerError(
            f"no tokenizer at {name!r} ({first_line(error)}); {_ALLOWED}"
        ) from error
    backend_of(found, name)
    return found


def _of_gguf(file: Path) -> PreTrainedTokenizerBase:
    try:
        return load_gguf_tokenizer(file)
    except ModelError as error:
        raise TokenizerError(str(error)) from error


def _of_file(file: Path) -> PreTrainedTokenizerFast:
    try:
        backend = Tokenizer.from_file(str(file))
    except Exception as error:  # tokenizers raises bare Exception
        raise TokenizerError(f"{file} is no tokenizer ({first_line(error)}); {_ALLOWED}") from error
    config = _config(file.parent / "tokenizer_config.json")
    mapped = _config(file.parent / "special_tokens_map.json")
    roles = {role: _content(config.get(role)) or _content(mapped.get(role)) for role in ROLES}
    known = {
        role: token
        for role, token in roles.items()
        if token and backend.token_to_id(token) is not None
    }  # fmt: skip
    made = PreTrainedTokenizerFast(
        tokenizer_object=backend, clean_up_tokenization_spaces=False, **known
    )
    template = file.parent / "chat_template.jinja"
    made.chat_template = (
        template.read_text(encoding="utf-8") if template.is_file() else config.get("chat_template")
    )
    return made


def _config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise ValueError("it is no table")
    except (OSError, ValueError, RecursionError) as error:
        raise TokenizerError(f"{path} cannot be read: {first_line(error)}") from error
    return found


def _content(token: Any) -> str | None:
    found = token.get("content") if isinstance(token, dict) else token
    return found if isinstance(found, str) else None


__all__ = ["fast_tokenizer"]
