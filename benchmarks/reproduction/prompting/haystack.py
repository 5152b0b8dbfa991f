"""A needle in books, and what a recipe reads of them, in a process of its own.

    python -m benchmarks.reproduction.prompting.haystack RECIPE TOKENS DEPTH

prints one line of JSON: whether the needle was kept, tokens read, and the process's peak of memory.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.reproduction.books import gutenberg
from benchmarks.reproduction.harness import Row, load

from lengthwise.api.text_model import LocalText
from lengthwise.methods.prompts import TextModel
from lengthwise.recipes import parse

RECIPE, TOKENS, DEPTH = "recipe", "text, tokens", "depth, %"
KEPT, READ, PEAK, HELD = "needle kept", "tokens read", "peak, MiB", "before, MiB"
HAYSTACK = {RECIPE: "", TOKENS: ",.0f", DEPTH: ".0f", KEPT: "", READ: ",.0f", HELD: ",.0f",
            PEAK: ",.0f"}  # fmt: skip
QUESTION = "The pass key of the violet door is"
# Characters whose tokens are counted at once.
STEP = 1 << 16


def asked(recipe: str, tokens: int, depth: float) -> Row:
    """What a process of its own finds.

    Args:
        recipe: with a prompting method.
        tokens: of the text.
        depth: of the needle, a share of the text.
    """
    command = [sys.executable, "-m", __name__, recipe, str(tokens), str(depth)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {RECIPE: f"`{recipe}`", TOKENS: tokens, DEPTH: 100 * depth, **found}


def text_of(tokens: int, model: TextModel) -> str:
    """The first tokens of the books, up to the end of a line."""
    books, at, count = gutenberg(), 0, 0
    while count < tokens:
        part = books[at : at + STEP]
        spans = model.spans(part)
        if count + len(spans) > tokens:
            part = part[: spans[tokens - count][0]]
        at, count = at + len(part), count + len(spans)
    return books[: books.rindex("\n", 0, at) + 1]


def _main(recipe: str, tokens: int, depth: float) -> None:
    method = parse(recipe).prompting
    assert method is not None
    reader = LocalText(load())
    text = text_of(tokens, reader)
    needle = f"{QUESTION} {random.Random(tokens).randrange(10**6, 10**7)}."
    place = text.index("\n", round(depth * len(text))) + 1
    text = f"{text[:place]}{needle}\n{text[place:]}"
    # What the first forward makes for all later ones is there before, and all of the embeddings,
    # which are mapped: else each new word would bring a page of them.
    reader.write(text[:2000], QUESTION, 1)
    load().adapted.model.get_input_embeddings().weight.float().sum()
    reader.tokens_read, held = 0, _peak()
    found = method.write_prompt([text], QUESTION, reader)
    read = reader.tokens_read + reader.count(found.text)
    kept = "yes" if needle in found.text else "no"
    print(json.dumps({KEPT: kept, READ: read, HELD: held, PEAK: _peak()}))


def _peak() -> float:
    """The most memory that this process has held, MiB."""
    status = Path("/proc/self/status").read_text("ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


if __name__ == "__main__":
    _main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))


__all__ = ["HAYSTACK", "asked", "text_of"]
