"""F1 of Chinese replies, in words or in characters, and the words that ROUGE is given.

Words are jieba's: LongBench (Bai and others, 2023, arXiv:2308.14508). Characters: InfiniteBench
(Zhang and others, 2024, arXiv:2402.13718). Both drop case, spaces and punctuation, Chinese marks
and ASCII's.
"""

from __future__ import annotations

import string
from collections.abc import Sequence as Seq

from lengthwise.evaluation.scorers._libraries import chinese_words
from lengthwise.evaluation.scorers.matching import bag_f1

# All that both benchmarks leave out: full-width marks, quotation marks, dashes, ellipses.
_CHINESE = "！？｡。＂＃＄％＆＇（）＊＋，－／：；＜＝＞＠［＼］＾＿｀｛｜｝～｟｠｢｣､、〃"
_CHINESE += "《》「」『』【】〔〕〖〗〘〙〚〛〜〝〞〟〰〾〿–—‘’‛“”„‟…‧﹏"
_MARKS = string.punctuation + _CHINESE
_ALL = str.maketrans("", "", _MARKS)
_RELEASED = str.maketrans("", "", _MARKS.replace("《", ""))


def chinese_f1(
    reply: str, references: Seq[str], *, characters: bool = False, compat: bool = False
) -> float:
    """F1 of words (LongBench, arXiv:2308.14508) or characters (InfiniteBench, arXiv:2402.13718).

    Args:
        reply: by a model.
        references: right answers, at least one.
        characters: compare characters; without, jieba's words.
        compat: as in both benchmarks, two texts without words score 0, and the mark that opens a
            title (U+300A) is left in, though the one that closes it is not. Without, they score 1,
            and both marks are left out.

    Returns:
        0 to 1.

    Raises:
        LengthwiseError: for words, where jieba is missing.
    """
    parts = _characters if characters else _words
    marks = _RELEASED if compat else _ALL
    said = parts(reply, marks)
    return max(bag_f1(said, parts(each, marks), compat=compat) for each in references)


def _words(text: str, marks: dict[int, int | None]) -> list[str]:
    return [plain for word in chinese_words(text) if (plain := _plain(word, marks))]


def _characters(text: str, marks: dict[int, int | None]) -> list[str]:
    return list(_plain(text, marks))


def _plain(text: str, marks: dict[int, int | None]) -> str:
    return "".join(text.lower().translate(marks).split())


__all__ = ["chinese_f1"]
