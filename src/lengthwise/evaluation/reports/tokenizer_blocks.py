"""The tables of a report on tokenizers, as text: what a terminal and a page both show."""

from __future__ import annotations

from collections.abc import Callable, Sequence as Seq
from dataclasses import dataclass
from statistics import fmean

from lengthwise._utils.plural import many
from lengthwise.evaluation.reports.columns import DASH, number
from lengthwise.tokenization.report import Report, TokenizerReport
from lengthwise.tokenization.report.parallel import LanguageFigures
from lengthwise.tokenization.report.qtok import CLASSES
from lengthwise.tokenization.report.round_trip import RoundTrip

# Languages that a terminal shows of either end where there are more than twice as many.
ENDS = 12
_SCRIPTS = 8


@dataclass(frozen=True)
class Block:
    """A table. heads: of its columns, as (name, unit). rows: a name and its cells. said: what the
    figures mean. by: what a row is."""

    title: str
    heads: Seq[tuple[str, str]]
    rows: Seq[tuple[str, Seq[str]]]
    said: str = ""
    by: str = "tokenizer"


def blocks(report: Report, whole: bool = False) -> list[Block]:
    """The tables of a report, those with nothing in them left out.

    Args:
        report: of tokenizers.
        whole: show every language, however many there are.
    """
    made = (
        _length(report), _languages(report), *_by_language(report, whole), _classes(report),
        _scripts(report), _code(report), _turkish(report), _faults(report),
    )  # fmt: skip
    return [each for each in made if each is not None and each.rows]


def notes(report: Report) -> list[str]:
    """What no table has: notes of tokenizers, examples of faults.

    Args:
        report: of tokenizers.
    """
    found = []
    for each in report.tokenizers:
        found += [f"{each.name}: {note}" for note in each.notes]
        for place, trip in (("text", each.on_text), ("random Unicode", each.on_random)):
            for failure in trip.examples[:1]:
                found.append(
                    f"{each.name}, {place}: {_short(failure.text)} comes back as "
                    f"{_short(failure.got)} ({failure.why})"
                )
        if each.reach is not None and each.reach.examples:
            listed = ", ".join(
                f"{_short(text)} ({why})" for _, text, why in each.reach.examples[:4]
            )
            found.append(f"{each.name}, never yielded: {listed}")
        if each.glitches.candidates:
            listed = ", ".join(_short(text) for _, text, _ in each.glitches.candidates[:8])
            found.append(f"{each.name}, glitch candidates by {each.glitches.by}: {listed}")
    if report.shared is not None:
        stand = "is" if report.shared == 1 else "are"
        found.append(f"{many(report.shared, 'token')} {stand} in all of these vocabularies")
    return found


def _rows(
    report: Report, cells: Callable[[TokenizerReport], Seq[str] | None]
) -> list[tuple[str, Seq[str]]]:
    return [(t.name, found) for t in report.tokenizers if (found := cells(t)) is not None]


def _length(report: Report) -> Block:
    priced = any(each.price is not None for each in report.tokenizers)

    def cells(each: TokenizerReport) -> Seq[str]:
        text = each.text
        found = [
            f"{each.size:,}", number(text.bytes_per_token), number(text.tokens_per_character, 3),
            number(text.words_per_token), number(text.fertility),
            f"{text.tokens_per_document:,.0f}", number(text.mb_per_second, 1),
        ]  # fmt: skip
        if priced:
            found.append(DASH if each.price is None else f"{text.cost(each.price):.4f}")
        return found

    heads = [
        ("vocabulary", "tokens"), ("bytes", "a token"), ("tokens", "a character"),
        ("words", "a token"), ("fertility", "tokens a word"), ("document", "tokens"),
        ("speed", "MB/s"), *([("cost", "$ a document")] if priced else []),
    ]  # fmt: skip
    text = report.tokenizers[0].text
    said = (
        f"On {report.text}: {many(text.bytes, 'byte')} as read, {many(text.words, 'word')}. "
        "Seconds are those of this machine, all texts at once."
    )
    return Block("Length", heads, _rows(report, cells), said)


def _languages(report: Report) -> Block | None:
    def cells(each: TokenizerReport) -> Seq[str] | None:
        if each.spread is None:
            return None
        known = {language.language: language for language in each.languages}
        by = sorted(each.languages, key=lambda language: language.premium)
        return [
            f"{known[report.reference].tokens:,}", number(fmean(x.premium for x in by)),
            f"{by[-1].language} {by[-1].premium:.2f}", f"{by[0].language} {by[0].premium:.2f}",
            number(each.spread.ratio), number(each.spread.variation),
        ]  # fmt: skip

    heads = [
        (report.reference, "tokens"), ("premium", "mean"), ("dearest", "premium"),
        ("cheapest", "premium"), ("spread", "most / least"), ("variation", "sd / mean"),
    ]  # fmt: skip
    count = len(report.tokenizers[0].languages)
    said = (
        f"On {report.parallel}, the same text in {count} languages. A premium is a language's "
        f"tokens over those of {report.reference}."
    )
    return Block("Languages", heads, _rows(report, cells), said)


def languages_by_premium(report: Report) -> list[str]:
    """The languages of a report, the dearest first by their mean premium.

    Args:
        report: of tokenizers; one without a parallel text has none.
    """
    means: dict[str, list[float]] = {}
    for each in report.tokenizers:
        for language in each.languages:
            means.setdefault(language.language, []).append(language.premium)
    return sorted(means, key=lambda language: -fmean(means[language]))


def _by_language(report: Report, whole: bool) -> list[Block]:
    """Every language: its figures in the one tokenizer, or a figure in each of several."""
    order, said = languages_by_premium(report), ""
    if not whole and len(order) > 2 * ENDS:
        said = (
            f"The {ENDS} dearest and the {ENDS} cheapest of {len(order)} languages; --json and "
            "--html have them all."
        )
        order = [*order[:ENDS], *order[-ENDS:]]
    by = [{each.language: each for each in t.languages} for t in report.tokenizers]
    if len(by) == 1:
        rows = [(language, _figures(by[0][language])) for language in order]
        return [Block("By language", _FIGURES, rows, f"{said} {_PARITY}".strip(), "language")]
    heads = [(each.name, "") for each in report.tokenizers]

    def table(title: str, value: Callable[[LanguageFigures], float], said: str) -> Block:
        rows = [(language, [number(value(known[language])) for known in by]) for language in order]
        return Block(title, heads, rows, said, "language")

    premium = table("Premium by language", lambda each: each.premium, said)
    if not whole:
        return [premium]
    return [
        premium, table("Parity by language", lambda each: each.parity, _PARITY),
        table("Fertility by language", lambda each: each.fertility, "Tokens a word."),
    ]  # fmt: skip


_PARITY = "Parity is the mean over lines of what the premium is of totals."
_FIGURES = [
    ("premium", ""), ("parity", ""), ("tokens", ""), ("fertility", "tokens a word"),
    ("bytes", "a token"), ("bytes", "of the reference's"), ("vocabulary", "tokens used"),
]  # fmt: skip


def _figures(each: LanguageFigures) -> list[str]:
    return [
        number(each.premium), number(each.parity), f"{each.tokens:,}", number(each.fertility),
        number(each.bytes_per_token), number(each.byte_premium), f"{each.used:,}",
    ]  # fmt: skip


def _classes(report: Report) -> Block:
    def cells(each: TokenizerReport) -> Seq[str] | None:
        if each.vocabulary is None:
            return None
        shares = [each.vocabulary.classes.get(name) for name in CLASSES]
        start = each.vocabulary.word_starts
        return [
            *(DASH if x is None else _two(x.vocabulary, x.used) for x in shares),
            _two(start.vocabulary, start.used), number(each.vocabulary.mean_length),
        ]  # fmt: skip

    heads = [*((name, "%") for name in CLASSES), ("word start", "%"), ("length", "characters")]
    said = "Share of the vocabulary / share of the tokens of the text, in percent (Qtok's classes)."
    return Block("Vocabulary", heads, _rows(report, cells), said)


def _scripts(report: Report) -> Block:
    total: dict[str, int] = {}
    for each in report.tokenizers:
        for name, share in (each.vocabulary.scripts if each.vocabulary else {}).items():
            total[name] = total.get(name, 0) + share.tokens
    names = sorted(total, key=lambda name: -total[name])[:_SCRIPTS]

    def cells(each: TokenizerReport) -> Seq[str] | None:
        if each.vocabulary is None:
            return None
        found = []
        for name in names:
            share, own = each.vocabulary.scripts.get(name), each.vocabulary.coverage.get(name)
            kept = "" if own is None else f", {own.own:,}"
            found.append(DASH if share is None else f"{100 * share.vocabulary:.1f}{kept}")
        return found

    said = (
        "Share of the vocabulary in percent, and how many letters of the script are a token by "
        "themselves."
    )
    return Block("Scripts", [(name, "%, letters") for name in names], _rows(report, cells), said)


def _code(report: Report) -> Block:
    styles = ("one word", "snake_case", "camelCase")

    def cells(each: TokenizerReport) -> Seq[str]:
        digits, code = each.digits, each.code
        numbers = [DASH] * 3
        if digits is not None:
            numbers = [digits.direction, number(digits.per_token), " ".join(digits.example)]
        return [
            *numbers, number(code.per_identifier),
            *(number(code.by_style.get(style)) for style in styles),
            f"{100 * code.whole:.0f}", number(code.bytes_per_token),
        ]  # fmt: skip

    heads = [
        ("digits cut", ""), ("digits", "a token"), ("1234567", ""), ("identifier", "tokens"),
        *((style, "tokens") for style in styles), ("in one", "%"), ("Python", "bytes a token"),
    ]  # fmt: skip
    said = "Identifiers are those of ten modules of the standard library."
    return Block("Numbers and code", heads, _rows(report, cells), said)


def _turkish(report: Report) -> Block:
    def cells(each: TokenizerReport) -> Seq[str] | None:
        found = each.turkish
        if found is None:
            return None
        return [
            f"{found.tokens:,}", f"{found.unique:,}", number(found.tr), number(found.pure_share),
            number(found.tr_of_letters),
        ]  # fmt: skip

    heads = [
        ("tokens", ""), ("unique", "tokens"), ("%TR", ""), ("%Pure", ""), ("%TR", "letters alone"),
    ]  # fmt: skip
    lexicon = next((x.turkish.lexicon for x in report.tokenizers if x.turkish), "")
    said = f"Distinct tokens that are Turkish, and one root or affix, by the lexicon of {lexicon}."
    return Block("Turkish", heads, _rows(report, cells), said)


def _faults(report: Report) -> Block:
    def cells(each: TokenizerReport) -> Seq[str]:
        reach = each.reach
        causes = (
            DASH if reach is None else ", ".join(f"{n} {why}" for why, n in reach.causes.items())
        )
        return [
            _trip(each.on_text), _trip(each.on_random),
            DASH if reach is None else f"{len(reach.tokens):,}", causes or DASH,
            f"{100 * each.glitches.share:.1f}", "none" if each.end is None else f"{each.end:,}",
        ]  # fmt: skip

    heads = [
        ("not back", "text"), ("not back", "random Unicode"), ("never yielded", "tokens"),
        ("why", ""), ("unused", "% on the text"), ("end", "token"),
    ]  # fmt: skip
    said = (
        "Not back: texts that decode to others. Never yielded: tokens that no encoding of their "
        "own text has (twin: another has its bytes; bytes: no text has that byte; merges, split: "
        "they are not reached)."
    )
    return Block("Faults", heads, _rows(report, cells), said)


def _trip(trip: RoundTrip) -> str:
    if not trip.failed:
        return f"0 of {trip.tried:,}"
    why = next(iter(trip.causes))
    return f"{trip.failed:,} of {trip.tried:,}: {_shortened(why, 32)}"


def _two(first: float, second: float) -> str:
    return f"{100 * first:.1f} / {100 * second:.1f}"


def _short(text: str) -> str:
    return repr(_shortened(text, 24))


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


__all__ = ["Block", "blocks", "languages_by_premium", "notes"]
