"""JRT: the losses of what is planted behind one reading and behind two."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.reproduction.harness import Found, check, load, reference

import lengthwise
from lengthwise.documents.document import Document

COLUMNS = {"recipe": "", "copy, nats": ".3f", "keys, nats": ".3f", "tokens read": ","}


@check(COLUMNS)
def jrt(length: int = 2048) -> Iterator[Found]:
    """Losses of words and keys planted in the beginning of the default document."""
    model = load()
    assert model.tokenizer is not None
    text = str(model.tokenizer.decode(reference(model)[: 2 * length]))
    found = lengthwise.compare(
        model, Document.from_text(text), "What is this?", ["jrt", "jrt(times=3)"], length,
        max_new_tokens=2,
    )  # fmt: skip
    for each in found:
        yield {
            "recipe": f"`{each.recipe}`", "copy, nats": each.copy_loss,
            "keys, nats": each.needle_loss, "tokens read": each.tokens_read,
        }  # fmt: skip
