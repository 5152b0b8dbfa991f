"""The pieces of a corpus and how often each occurs: what most kinds learn from.

Memory grows with the number of different pieces, not with the corpus: where they are more than
`MOST`, those that came once so far are dropped. A file in the work folder keeps the counts, so that
training that was stopped does not read the corpus again.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from tokenizers.pre_tokenizers import PreTokenizer

from lengthwise._utils.files import write_aside
from lengthwise.errors import TokenizerError
from lengthwise.tokenization.trainers.kind import Texts, Told

MOST = 8_000_000
"""Different pieces that are held; about 1 GB."""
FILE = "pieces.jsonl"


def count_pieces(texts: Texts, cut: PreTokenizer, work: Path, told: Told) -> dict[str, int]:
    """Counts of pieces, the frequent ones first and then by their letters.

    Args:
        texts: the corpus.
        cut: cuts a text into pieces.
        work: folder for the file of counts, which is read where it is there.
        told: called with progress.

    Raises:
        TokenizerError: no piece was found.
    """
    path = work / FILE
    if path.exists():
        return _read(path)
    found: Counter[str] = Counter()
    once = 0
    for text in texts():
        found.update([piece for piece, _ in cut.pre_tokenize_str(text)])
        while len(found) > MOST:
            once += 1
            found = Counter({piece: count for piece, count in found.items() if count > once})
    if not found:
        raise TokenizerError("the corpus has no text: give files that hold some")
    told("counting pieces", 1.0)
    ordered = sorted(found.items(), key=lambda item: (-item[1], item[0]))
    with write_aside(path) as aside, aside.open("w", encoding="utf-8") as file:
        for piece, count in ordered:
            file.write(json.dumps([piece, count], ensure_ascii=True) + "\n")
    return dict(ordered)


def _read(path: Path) -> dict[str, int]:
    with path.open(encoding="utf-8") as file:
        return dict(map(json.loads, file))


__all__ = ["FILE", "MOST", "count_pieces"]
