"""A tokenizer less the tokens that a text does not use, so that embeddings take less memory.

As vocabularies are trimmed in "Load What You Need" (Abdaoui et al., 2020, arXiv 2010.05609): kept
are the tokens that the tokenizer makes of a text, single bytes and characters, and special tokens.
That paper keeps WordPieces by their frequency. A BPE needs more: a token is only reached through
the merges below it, so the tokens on the way are kept as well. What is left cuts that text as
before:

- a merge that is left out was nowhere applied in the text, for all that a merge makes there either
  stays or is on the way to what stays;
- at each step the merge of the lowest rank is applied, and that one was kept.

Unigram keeps its best path, which is still there. Every kept token has its old row, so its logit is
the one it had.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from lengthwise._utils.papers import Paper
from lengthwise.errors import TokenizerError
from lengthwise.tokenization.trainers.kind import Texts, Told
from lengthwise.tokenization.transplant.bpe_file import Pair, keep_ids, of_table, table_of
from lengthwise.tokenization.transplant.dressing import backend_of, marks_of
from lengthwise.tokenization.transplant.method import silent

PAPER = Paper(
    "Load What You Need: Smaller Versions of Multilingual BERT", "Abdaoui et al.", 2020,
    arxiv="2010.05609",
)  # fmt: skip


def trimmed(
    own: PreTrainedTokenizerBase, texts: Texts, fewest: int = 1, told: Told = silent
) -> PreTrainedTokenizerFast:
    """The tokenizer with what a text needs of its vocabulary; ids are new, in the old order.

    Args:
        own: a fast one, BPE or Unigram; it stays as it is.
        texts: what has to be cut as before; gone through once.
        fewest: times that a token must stand there. Above 1, texts may be cut otherwise.
        told: called with progress.

    Raises:
        TokenizerError: another kind of tokenizer, or no text.
    """
    table = table_of(own)
    if table["model"]["type"] not in ("BPE", "Unigram"):
        raise TokenizerError(
            f"a tokenizer of kind {table['model']['type']} cannot be trimmed: allowed are BPE and "
            "Unigram"
        )
    counts: Counter[int] = Counter()
    backend = backend_of(own)
    for number, text in enumerate(texts()):
        counts.update(backend.encode(text, add_special_tokens=False).ids)
        told("text read", 1 - 1 / (number + 2))
    if not counts:
        raise TokenizerError("there is no text that says which tokens to keep: name a file")
    words = {token: word for word, token in own.get_vocab().items()}
    wanted = {words[token] for token, times in counts.items() if times >= fewest}
    kept = _base(own, table) | wanted
    if table["model"]["type"] == "BPE":
        kept |= _on_the_way(kept, table["model"]["merges"])
        _keep_bpe(table, kept)
    else:
        _keep_unigram(table, kept)
    return of_table(_renumbered(table, own, kept), own)


def _base(own: PreTrainedTokenizerBase, table: dict[str, Any]) -> set[str]:
    """Bytes, characters, what is unknown, and special tokens."""
    single = {
        word
        for word in own.get_vocab()
        if len(word) == 1 or (len(word) == 6 and word.startswith("<0x") and word[5] == ">")
    }
    unknown = table["model"].get("unk_token")
    return single | {each.content for each in marks_of(own)} | ({unknown} if unknown else set())


def _on_the_way(words: set[str], merges: list[Pair]) -> set[str]:
    """What is made on the way to each word when merges are applied to its characters."""
    ranks = {pair: rank for rank, pair in enumerate(merges)}
    found: set[str] = set()
    for word in words:
        parts = list(word)
        while len(parts) > 1:
            pairs = list(zip(parts, parts[1:], strict=False))
            best = min(range(len(pairs)), key=lambda n: ranks.get(pairs[n], len(ranks)))
            if pairs[best] not in ranks:
                break
            parts[best : best + 2] = ["".join(pairs[best])]
            found.add(parts[best])
    return found


def _keep_bpe(table: dict[str, Any], kept: set[str]) -> None:
    model = table["model"]
    model["vocab"] = {word: n for word, n in model["vocab"].items() if word in kept}
    there = model["vocab"].keys()
    model["merges"] = [
        pair for pair in model["merges"]
        if pair[0] in there and pair[1] in there and "".join(pair) in there
    ]  # fmt: skip


def _keep_unigram(table: dict[str, Any], kept: set[str]) -> None:
    model = table["model"]
    unknown = model.get("unk_id")
    pieces = [
        (n, piece)
        for n, piece in enumerate(model["vocab"])
        if piece[0] in kept or n == unknown or len(piece[0]) == 1
    ]
    model["vocab"] = [piece for _, piece in pieces]
    if unknown is not None:
        model["unk_id"] = next(n for n, (old, _) in enumerate(pieces) if old == unknown)


def _renumbered(
    table: dict[str, Any], own: PreTrainedTokenizerBase, kept: set[str]
) -> dict[str, Any]:
    """The table with ids from 0 on, in the order of the old ones."""
    model, old = table["model"], own.get_vocab()
    table["added_tokens"] = [each for each in table["added_tokens"] if each["content"] in kept]
    added = [each["content"] for each in table["added_tokens"]]
    if model["type"] == "BPE":
        order = sorted({*model["vocab"], *added}, key=lambda word: (old[word], word))
        ids = {word: number for number, word in enumerate(order)}
        model["vocab"] = {word: ids[word] for word in order if word in model["vocab"]}
    else:
        # Here a piece's place is its id, and added tokens that are no pieces stand behind.
        ids = {piece[0]: number for number, piece in enumerate(model["vocab"])}
        for word in sorted(set(added) - ids.keys(), key=lambda word: old[word]):
            ids[word] = len(ids)
    for each in table["added_tokens"]:
        each["id"] = ids[each["content"]]
    # A list of added tokens has to be in the order of ids, which stays as it was.
    table["added_tokens"].sort(key=lambda each: each["id"])
    if model["type"] == "BPE":
        keep_ids(table)
    for part in _processors(table["post_processor"]):
        for each in (part.get("special_tokens") or {}).values() if isinstance(
            part.get("special_tokens"), dict) else ():  # fmt: skip
            each["ids"] = [ids[token] for token in each["tokens"]]
    return table


def _processors(processor: Any) -> list[dict[str, Any]]:
    if processor is None:
        return []
    if processor["type"] == "Sequence":
        return [part for each in processor["processors"] for part in _processors(each)]
    return [processor]


__all__ = ["PAPER", "trimmed"]
