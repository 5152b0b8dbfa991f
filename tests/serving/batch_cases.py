"""What tests of batch jobs share: a tiny model that talks, and files of requests for it."""

from __future__ import annotations

import json
import random
from functools import cache
from pathlib import Path
from typing import Any

import lengthwise
from lengthwise.api.model import Model
from lengthwise.testing.tiny import tiny_model
from tests.tiny_tokenizers import byte_level

SYSTEMS = (
    "You answer in one word, and you never say why. " * 2,
    "Translate whatever is said into the language of the sea, slowly. " * 2,
    "Translate whatever is said into the language of the wind, fast. " * 2,
)


@cache
def model() -> Model:
    """A float32 model of random weights with a tokenizer of bytes, and no chat template."""
    tokenizer = byte_level()
    size = len(tokenizer)
    return lengthwise.wrap(
        tiny_model("llama", vocab_size=size, max_position_embeddings=2048, initializer_range=0.3,
                   eos_token_id=size - 1, bos_token_id=None, pad_token_id=None),
        tokenizer,
    )  # fmt: skip


def text(name: str, prompt: Any, **body: Any) -> dict[str, Any]:
    """A line that asks for a text, greedily unless something else is said."""
    asked = {"prompt": prompt, "max_tokens": 12, "temperature": 0, **body}
    return {"custom_id": name, "method": "POST", "url": "/v1/completions", "body": asked}


def some_requests(count: int = 12) -> list[dict[str, Any]]:
    """Requests that share three beginnings, in no order, of different lengths."""
    rng = random.Random(1)
    return [
        text(f"r{n}", SYSTEMS[n % 3] + f"Question {n}: " + "why " * rng.randrange(1, 9),
             max_tokens=rng.choice((4, 12, 24)))
        for n in range(count)
    ]  # fmt: skip


def write(path: Path, lines: list[Any]) -> Path:
    """A file of lines: objects as JSON, texts as they are."""
    said = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("\n".join(said) + "\n", encoding="utf-8")
    return path


def results(path: Path) -> dict[str, dict[str, Any]]:
    """Lines of OUT by custom_id."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert len({row["custom_id"] for row in rows}) == len(rows)
    return {row["custom_id"]: row for row in rows}


def said(row: dict[str, Any]) -> list[str]:
    """The texts of a result."""
    assert row["error"] is None and row["response"]["status_code"] == 200, row
    return [choice["text"] for choice in row["response"]["body"]["choices"]]


def alone(request: dict[str, Any], recipe: str = "full") -> str:
    """What a request gets by itself."""
    body = request["body"]
    ids = model().encode(body["prompt"], "text")
    return model().generate(ids, recipe, max_new_tokens=body["max_tokens"]).text
