"""Everything that a report says of tokenizers, side by side on the same texts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence as Seq
from dataclasses import asdict, dataclass, field
from typing import Any

from numpy.typing import NDArray

from lengthwise._utils.messages import first_line
from lengthwise._utils.suggestions import hint
from lengthwise.documents.document import Document
from lengthwise.errors import LengthwiseError, TokenizerError
from lengthwise.tokenization.opened import OpenTokenizer
from lengthwise.tokenization.report.digits import DigitFigures, measure_digits
from lengthwise.tokenization.report.identifiers import CodeFigures, measure_code
from lengthwise.tokenization.report.inequities import Spread, spread_of
from lengthwise.tokenization.report.parallel import LanguageFigures, Parallel, measure_languages
from lengthwise.tokenization.report.qtok import (
    VocabularyFigures,
    measure_vocabulary,
    shared_tokens,
)
from lengthwise.tokenization.report.reach import Glitches, Reach, glitches, unreachable
from lengthwise.tokenization.report.round_trip import (
    RoundTrip,
    pieces_of,
    random_unicode,
    round_trip,
)
from lengthwise.tokenization.report.texts import TextFigures, measure_texts
from lengthwise.tokenization.report.turkish import Lexicon, TurkishFigures, measure_turkish

Told = Callable[[str, str], None]


@dataclass(frozen=True)
class Question:
    """What is asked of every tokenizer.

    documents: the texts. parallel: a text in several languages; None without one. reference: the
    language whose premium is 1; None is English or the first. turkish: texts in Turkish. lexicon:
    what is Turkish. prices: dollars for a million tokens, by a tokenizer's name. embeddings: of a
    model's input by a tokenizer's name, `[vocabulary or more, width]`.
    """

    documents: Seq[Document]
    parallel: Parallel | None = None
    reference: str | None = None
    turkish: Seq[str] = ()
    lexicon: Lexicon | None = None
    prices: Mapping[str, float] = field(default_factory=dict)
    embeddings: Mapping[str, NDArray[Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class TokenizerReport:
    """What was found of one tokenizer. vocabulary, digits, reach: None where the bytes of its
    tokens are not told. languages: none without a parallel text."""

    name: str
    kind: str
    size: int
    end: int | None
    notes: Seq[str]
    price: float | None
    text: TextFigures
    languages: Seq[LanguageFigures]
    code: CodeFigures
    on_text: RoundTrip
    on_random: RoundTrip
    vocabulary: VocabularyFigures | None
    digits: DigitFigures | None
    reach: Reach | None
    glitches: Glitches
    turkish: TurkishFigures | None

    @property
    def spread(self) -> Spread | None:
        """How unequal languages are; None without a parallel text."""
        return spread_of([each.tokens for each in self.languages]) if self.languages else None

    def record(self) -> dict[str, Any]:
        """All of it as JSON has it, ratios beside totals."""
        text, spread = self.text, self.spread
        found = asdict(self) | {
            "text": asdict(text) | {
                "bytes_per_token": text.bytes_per_token, "fertility": text.fertility,
                "tokens_per_character": text.tokens_per_character,
                "words_per_token": text.words_per_token,
                "tokens_per_document": text.tokens_per_document,
                "mb_per_second": text.mb_per_second,
                "cost": None if self.price is None else text.cost(self.price),
            },
            "languages": [
                asdict(each) | {"fertility": each.fertility, "bytes_per_token":
                                each.bytes_per_token} for each in self.languages
            ],
            "spread": None if spread is None else asdict(spread),
        }  # fmt: skip
        if self.turkish is not None:
            found["turkish"] |= {
                "tr": self.turkish.tr, "pure": self.turkish.pure_share,
                "tr_of_letters": self.turkish.tr_of_letters,
            }  # fmt: skip
        return found


@dataclass(frozen=True)
class Report:
    """All tokenizers. text: name of the texts. parallel, reference: of the languages; "" without.
    shared: tokens that all have, by their bytes; None where some does not tell them."""

    text: str
    parallel: str
    reference: str
    shared: int | None
    tokenizers: Seq[TokenizerReport]

    def record(self) -> dict[str, Any]:
        """All of it as JSON has it."""
        return {
            "text": self.text, "parallel": self.parallel, "reference": self.reference,
            "shared_tokens": self.shared, "tokenizers": [each.record() for each in self.tokenizers],
        }  # fmt: skip


def report(
    tokenizers: Seq[OpenTokenizer], question: Question, told: Told = lambda name, what: None
) -> Report:
    """Measures tokenizers on the same texts.

    Args:
        tokenizers: one at least; those of one name are numbered.
        question: what is asked of each.
        told: called with a tokenizer's name and what is measured.

    Raises:
        TokenizerError: for one that cannot encode, and a price of none of them.
        DocumentError: for a reference language that is not there.
    """
    names = names_of(tokenizers)
    for what, given in (("price", question.prices), ("model", question.embeddings)):
        for each in given:
            if each not in names:
                raise TokenizerError(f"a {what} for {each!r}, which is no tokenizer here"
                                     f"{hint(each, names)}")  # fmt: skip
    parallel = question.parallel
    reference = "" if parallel is None else parallel.reference(question.reference)
    found = []
    for name, tokenizer in zip(names, tokenizers, strict=True):
        try:
            found.append(_report(name, tokenizer, question, reference, told))
        except LengthwiseError:
            raise
        except Exception as error:  # an encoder that is broken raises anything
            raise TokenizerError(
                f"{name} cannot encode these texts: {first_line(error)}"
            ) from error
    tell = all(each.tells_bytes for each in tokenizers)
    several = len(tokenizers) > 1 and tell
    documents = question.documents
    text = documents[0].name + (f" and {len(documents) - 1} more" if len(documents) > 1 else "")
    return Report(
        text, "" if parallel is None else parallel.name, reference,
        shared_tokens(tokenizers) if several else None, found,
    )  # fmt: skip


def names_of(tokenizers: Seq[OpenTokenizer]) -> list[str]:
    """What a report calls tokenizers: their names, numbered where several have one.

    Args:
        tokenizers: in the order of the report.
    """
    given = [each.name for each in tokenizers]
    seen: Counter[str] = Counter()
    names = []
    for name in given:
        seen[name] += 1
        names.append(name if given.count(name) == 1 else f"{name} ({seen[name]})")
    return names


def _report(
    name: str, tokenizer: OpenTokenizer, question: Question, reference: str, told: Told
) -> TokenizerReport:
    texts = [each.text for each in question.documents]
    parallel = question.parallel
    told(name, "texts")
    figures, counts = measure_texts(tokenizer, texts)
    tried = pieces_of(texts)
    languages: Seq[LanguageFigures] = ()
    if parallel is not None:
        told(name, "languages")
        languages = measure_languages(tokenizer, parallel, reference)
        tried = [*tried, *pieces_of([lines[0] for lines in parallel.lines.values()])]
    told(name, "vocabulary")
    tells = tokenizer.tells_bytes
    reach = unreachable(tokenizer) if tells else None
    turkish = None
    if question.turkish and question.lexicon is not None and tells:
        told(name, "Turkish")
        turkish = measure_turkish(tokenizer, question.turkish, question.lexicon)
    return TokenizerReport(
        name, tokenizer.kind, tokenizer.size, tokenizer.end, tokenizer.notes,
        question.prices.get(name), figures, languages, measure_code(tokenizer),
        round_trip(tokenizer, tried), round_trip(tokenizer, random_unicode()),
        measure_vocabulary(tokenizer, counts) if tells else None,
        measure_digits(tokenizer) if tells else None, reach,
        glitches(tokenizer, counts, reach, question.embeddings.get(name)), turkish,
    )  # fmt: skip


__all__ = ["Question", "Report", "TokenizerReport", "names_of", "report"]
