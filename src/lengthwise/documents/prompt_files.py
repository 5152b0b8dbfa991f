"""A user's own prompts, read from a file: one JSON object a line (or one JSON array of them).

Three forms are read. Spec-Bench's and MT-bench's `question.jsonl`: `{"question_id": 81, "category":
"writing", "turns": ["...", "..."]}`, whose turns are asked one after the other. A chat as OpenAI's
interface takes it: `{"messages": [{"role": "user", "content": "..."}]}`. Plain text: `{"prompt":
"..."}`. `category` (or `kind`) says what kind of work it is; prompts without one are of kind "own".
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lengthwise.documents.encodings import decode
from lengthwise.errors import DocumentError

OWN = "own"
_FORMS = '"turns" (a list of texts), "messages" (a chat), or "prompt" (a text)'
_ROLES = ("system", "user", "assistant")


@dataclass(frozen=True)
class Conversation:
    """One conversation. turns: what the user says, first to last.

    before: messages that stand before the first of them.
    """

    kind: str
    name: str
    turns: tuple[str, ...]
    before: tuple[dict[str, str], ...] = ()


def read_prompts(path: str | Path) -> list[Conversation]:
    """All conversations of a file, in its order.

    Args:
        path: of JSON lines, or of one JSON array.

    Returns:
        The conversations, at least one.

    Raises:
        DocumentError: for a file that cannot be read, and for an item that is no conversation, with
            its line.
    """
    place = Path(os.path.expanduser(path))
    try:
        text = decode(place.read_bytes(), str(path))
    except OSError as error:
        raise DocumentError(f"{path}: cannot be read ({error.strerror})") from error
    found = [_asked(where, number, item) for where, number, item in _items(str(path), text)]
    if not found:
        raise DocumentError(f"{path}: holds no prompt; write one JSON object a line, with {_FORMS}")
    return found


def _items(path: str, text: str) -> Iterator[tuple[str, int, Any]]:
    """(where, number, value) of every item."""
    if text.lstrip().startswith("["):
        try:
            items = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise DocumentError(f"{path}: this JSON array is damaged ({error})") from error
        yield from ((f"{path}: item {n}", n, item) for n, item in enumerate(items, 1))
        return
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                yield f"{path}, line {number}", number, json.loads(line)
            except (ValueError, RecursionError) as error:
                raise DocumentError(
                    f"{path}, line {number}: no JSON object ({error}); write one a line"
                ) from error


def _asked(where: str, number: int, item: Any) -> Conversation:
    given = [
        key for key in ("turns", "messages", "prompt") if isinstance(item, dict) and key in item
    ]
    if len(given) != 1:
        raise DocumentError(f"{where}: give one of {_FORMS}")
    kind = str(item.get("category") or item.get("kind") or OWN)
    name = str(item.get("question_id", item.get("id", number)))
    if given == ["messages"]:
        before, last = _chat(where, item["messages"])
        return Conversation(kind, name, (last,), before)
    turns = [item["prompt"]] if given == ["prompt"] else item["turns"]
    if not isinstance(turns, list) or not turns or not all(map(_is_text, turns)):
        raise DocumentError(f'{where}: "{given[0]}" must hold text, none of it empty')
    return Conversation(kind, name, tuple(turns))


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _chat(where: str, messages: Any) -> tuple[tuple[dict[str, str], ...], str]:
    """The messages before the last one, and the text of the last, which is the user's."""
    right = isinstance(messages, list) and all(
        isinstance(m, Mapping) and m.get("role") in _ROLES and _is_text(m.get("content"))
        for m in messages
    )
    if not right or not messages or messages[-1]["role"] != "user":
        raise DocumentError(
            f'{where}: "messages" must be objects with "role" ({", ".join(_ROLES)}) and "content", '
            "the user's last"
        )
    plain = tuple({"role": m["role"], "content": m["content"]} for m in messages)
    return plain[:-1], plain[-1]["content"]
