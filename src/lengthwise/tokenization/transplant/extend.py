"""A tokenizer with tokens more, learned on a text: the first half of Cabrita's recipe.

Larcher et al., "Cabrita: closing the gap for foreign languages", 2023 (arXiv 2308.11878): give a
model's tokenizer tokens of a new language, keep all old rows, and continue training. The paper
trains a SentencePiece vocabulary of the language and joins the two. Here merges are learned on top
of those that are there. The text is cut by the old tokenizer, and characters that it has no token
for get one. Then the most frequent neighbours within a word become one token, again and again. The
new merges stand behind the old ones. So every text is first cut as before, and one in which no new
merge applies is cut as ever.
"""

from __future__ import annotations

import heapq
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import groupby

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from lengthwise._utils.papers import Paper
from lengthwise.errors import TokenizerError
from lengthwise.tokenization.trainers.kind import Texts, Told
from lengthwise.tokenization.transplant.bpe_file import (
    Pair,
    keep_ids,
    of_table,
    require_plain,
    table_of,
)
from lengthwise.tokenization.transplant.method import silent

PAPER = Paper(
    "Cabrita: closing the gap for foreign languages", "Larcher et al.", 2023, arxiv="2308.11878"
)
FEWEST = 2
"""A pair seen less often is no token."""
_LONGEST = 32
# Tokenizers that do not cut at spaces would merge over words; this is how both kinds write one.
_WORD = re.compile("[\u0120\u2581]*[^\u0120\u2581]+|[\u0120\u2581]+")


def extended(
    own: PreTrainedTokenizerBase, texts: Texts, count: int, told: Told = silent
) -> PreTrainedTokenizerFast:
    """The tokenizer with `count` tokens more. All old ids are what they were.

    Args:
        own: a fast BPE; it stays as it is.
        texts: what the new tokens are learned on; gone through once.
        count: new tokens.
        told: called with progress.

    Raises:
        TokenizerError: another kind of tokenizer, or a text that does not give as many.
    """
    table = table_of(own)
    require_plain(table, "extended")
    vocabulary, merges = table["model"]["vocab"], table["model"]["merges"]
    added = {each["content"] for each in table["added_tokens"]}
    known, largest = {*vocabulary, *added}, max(own.get_vocab().values(), default=-1)
    learned = 0
    for word, pair in _learned(_words(own, texts, known, added), known, added):
        if pair is not None:
            merges.append(pair)
        if word not in known:
            known.add(word)
            learned += 1
            vocabulary[word] = largest + learned
            told("tokens learned", learned / count)
        if learned == count:
            keep_ids(table)
            return of_table(table, own)
    raise TokenizerError(
        f"the text gives {learned:,} new tokens and not {count:,}: no other pair of tokens stands "
        f"{FEWEST} times within a word; give more text, or ask for {learned:,} or fewer"
    )


def _words(
    own: PreTrainedTokenizerBase, texts: Texts, known: set[str], added: set[str]
) -> dict[tuple[str, ...], int]:
    """How often each word stands in the texts, as the tokens that it is cut into.

    A character that is no token stands for itself, and not as bytes. Added tokens are cut out of a
    text before all else, so no word holds one.
    """
    backend: Tokenizer = own.backend_tokenizer
    cut, longest_first = backend.pre_tokenizer, sorted(filter(None, added), key=len, reverse=True)
    whole = re.compile("|".join(map(re.escape, longest_first)) or "(?!)")
    counts: Counter[str] = Counter()
    for text in (each for given in texts() for each in whole.split(given) if each):
        if backend.normalizer is not None:
            text = backend.normalizer.normalize_str(text)
        parts = [text] if cut is None else [part for part, _ in cut.pre_tokenize_str(text)]
        for part in parts:
            counts.update(_WORD.findall(part))
    found: Counter[tuple[str, ...]] = Counter()
    for word, times in counts.items():
        tokens: list[str] = []
        for there, run in groupby(word, key=known.__contains__):
            part = "".join(run)
            tokens += [each.value for each in backend.model.tokenize(part)] if there else part
        found[tuple(tokens)] += times
    return found


def _learned(
    words: dict[tuple[str, ...], int], known: set[str], added: set[str]
) -> Iterator[tuple[str, Pair | None]]:
    """New tokens, with what they are merged of: characters, then the most frequent pair each time.

    Of pairs that are as frequent, the first by its text is taken. A character seen once is none.
    """
    single: Counter[str] = Counter()
    for word, times in words.items():
        for token in word:
            single[token] += times if token not in known else 0
    fresh = [each for each, many in single.items() if many >= FEWEST]
    for each in sorted(fresh, key=lambda each: (-single[each], each)):
        yield each, None
    whole: Counter[tuple[str, ...]] = Counter()
    for word, times in words.items():
        for there, run in groupby(word, key=known.__contains__):
            if there:
                whole[tuple(run)] += times
    for pair in _pairs(whole, added):
        yield "".join(pair), pair


def _pairs(words: dict[tuple[str, ...], int], added: set[str]) -> Iterator[Pair]:
    """Pairs in the order in which they are merged; none makes an added token."""
    held, times = [list(word) for word in words], list(words.values())
    counts: Counter[Pair] = Counter()
    where: defaultdict[Pair, set[int]] = defaultdict(set)
    for number, word in enumerate(held):
        for pair in zip(word, word[1:], strict=False):
            counts[pair] += times[number]
            where[pair].add(number)
    heap = [(-many, pair) for pair, many in counts.items()]
    heapq.heapify(heap)
    while heap:
        many, pair = heapq.heappop(heap)
        if -many != counts[pair]:
            if counts[pair] >= FEWEST:
                heapq.heappush(heap, (-counts[pair], pair))
            continue
        if -many < FEWEST:
            return
        if len("".join(pair)) > _LONGEST or "".join(pair) in added:
            continue
        yield pair
        for changed in _merge(pair, held, times, counts, where):
            heapq.heappush(heap, (-counts[changed], changed))


def _merge(
    pair: Pair, held: list[list[str]], times: list[int], counts: Counter[Pair],
    where: defaultdict[Pair, set[int]],
) -> set[Pair]:  # fmt: skip
    """Makes one token of a pair wherever it stands; the pairs that there are more of now."""
    more: set[Pair] = set()
    for number in sorted(where.pop(pair)):
        word, times_here = held[number], times[number]
        for old in zip(word, word[1:], strict=False):
            counts[old] -= times_here
        joined, at = [], 0
        while at < len(word):
            both = at + 1 < len(word) and (word[at], word[at + 1]) == pair
            joined.append("".join(pair) if both else word[at])
            at += 2 if both else 1
        held[number] = joined
        for new in zip(joined, joined[1:], strict=False):
            counts[new] += times_here
            if "".join(pair) in new:
                where[new].add(number)
                more.add(new)
    return more


__all__ = ["FEWEST", "PAPER", "extended"]
