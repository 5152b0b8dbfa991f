"""Whether a reply is as long as it was asked to be: Ruler's Target Length Generation.

Li and others, "Ruler: A Model-Agnostic Method to Control Generated Length for Large Language
Models", EMNLP Findings 2024, arXiv:2409.18943. `metrics.answer_lengths` has shares of many replies.
"""

from __future__ import annotations

import re
from collections.abc import Sequence as Seq

from lengthwise.errors import LengthwiseError

_TOKEN = re.compile(r"^\s*\[MLT:>?\d+\]")


def word_count_match(reply: str, references: Seq[str], *, flexible: bool = False) -> float:
    """Whether the words of a reply lie in the band of its target: Ruler (arXiv:2409.18943).

    Args:
        reply: by a model; a meta length token at its front is no part of it.
        references: the target, such as "50" or ">800".
        flexible: the wider band (FM); without, the precise one (PM).

    Returns:
        0 or 1.

    Raises:
        LengthwiseError: for a target that is no class.
    """
    from lengthwise.methods.prompting.ruler import CLASSES, ruler_words, within_band

    known = {each.target: each for each in CLASSES}
    unknown = [each for each in references if each not in known]
    if unknown:
        raise LengthwiseError(f"length {unknown[0]!r}: allowed are {', '.join(known)}")
    words = ruler_words(_TOKEN.sub("", reply))
    kinds = [known[each] for each in references]
    bands = [each.flexible if flexible else each.precise for each in kinds]
    return float(any(within_band(words, band) for band in bands))


__all__ = ["word_count_match"]
