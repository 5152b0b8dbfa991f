"""What every method of the shelf reads, and what it is asked for then, as token ids.

One context serves all: a document with words to copy and keys to find planted in it. Then the
document goes on, and the loss of what follows is measured too. As JSON it is what another library
is given, so that both read the same tokens.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence as Seq
from dataclasses import asdict, dataclass

from lengthwise.errors import DocumentError, LengthwiseError
from lengthwise.evaluation.tasks.probes import Probe, Tokenizer, probe_context

# Needles: more than the probes of `compare` have, since one context is all that is read.
DEPTHS = (0.1, 0.3, 0.5, 0.7, 0.9)


@dataclass(frozen=True, slots=True)
class ShelfText:
    """The context with its probes, and how the document goes on.

    document: its name.
    length: tokens that were asked for; context, continuation and probes fit in it.
    context: what is read, and then compressed.
    continuation: the document's next tokens, fed one after the other.
    probes: what is asked of a copy of the cache, the copy probe first.
    """

    document: str
    length: int
    context: tuple[int, ...]
    continuation: tuple[int, ...]
    probes: tuple[Probe, ...]

    @property
    def digest(self) -> str:
        """Tells one text from another: of all its token ids."""
        ids = [self.context, self.continuation, *((p.suffix, p.target) for p in self.probes)]
        return hashlib.sha256(json.dumps(ids).encode()).hexdigest()[:12]

    def to_json(self) -> str:
        """The fields and the digest as one JSON object."""
        return json.dumps({**asdict(self), "digest": self.digest}, ensure_ascii=False)


def shelf_text(
    document: str, ids: Seq[int], tokenizer: Tokenizer, length: int, follow: int
) -> ShelfText:
    """Plants the probes in a document, and cuts off what follows.

    Args:
        document: its name.
        ids: token ids of the document, special tokens as the model wants them.
        tokenizer: of the model.
        length: tokens of context and continuation together.
        follow: tokens of the continuation.

    Raises:
        DocumentError: where the document is shorter than that.
        LengthwiseError: where the probes do not fit.
    """
    if follow >= length:
        raise LengthwiseError(
            f"{follow:,} tokens to foretell leave nothing to read of a length of {length:,}: give "
            "a larger --length or a smaller --follow"
        )
    found = probe_context(ids, tokenizer, length - follow, DEPTHS)
    own = len(found.context) - sum(stop - start for start, stop in found.planted)
    after = tuple(ids[own : own + follow])
    if len(after) < follow:
        raise DocumentError(
            f"a length of {length:,} needs {own + follow:,} tokens of document and there are "
            f"{len(ids):,}: give a longer document or a smaller --length"
        )
    return ShelfText(document, length, found.context, after, found.probes)
