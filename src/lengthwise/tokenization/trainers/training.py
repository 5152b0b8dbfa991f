"""From texts to a folder with a tokenizer that transformers loads.

    texts -> looked through -> a share held out -> a kind trains -> special tokens -> written
                                                                                   -> measured

The folder holds `tokenizer.json`, `tokenizer_config.json` with the end of a text, and
`lengthwise.json`, which says how it was made. The same texts and settings give the same three
files. A training that was stopped, even by kill -9, goes on from its work folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator, Sequence as Seq
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, normalizers

from lengthwise._utils.files import write_text
from lengthwise._utils.locks import alone_in
from lengthwise._utils.suggestions import hint
from lengthwise._utils.version import __version__
from lengthwise.errors import TokenizerError
from lengthwise.tokenization.trainers.byte_level import ALPHABET, NORMALIZERS
from lengthwise.tokenization.trainers.corpus import Parts, Survey, survey
from lengthwise.tokenization.trainers.hybrid import MORPHEMES
from lengthwise.tokenization.trainers.kind import END, KINDS, Texts, TokenizerKind, Told
from lengthwise.tokenization.trainers.measured import Measured, measure
from lengthwise.tokenization.trainers.work import Work, work_of

RECORD = "lengthwise.json"
_NO_LIMIT = 10**30
# Tokens that may be asked for, however few a corpus can give.
_ANYWAY = 1 << 20
# Of tokenizers that lay there before, and read in place of what is written or beside it.
_STALE = (MORPHEMES, "special_tokens_map.json", "added_tokens.json")
_LETTERS = frozenset(ALPHABET)
_ANEW = "give a list of texts, or a function that gives them anew each time it is called"


@dataclass(frozen=True)
class Trained:
    """A tokenizer that was trained, and where it lies.

    size: tokens of its vocabulary, special ones included. asked: how many were asked for. twice:
    where they are fewer, special tokens and those of the kind's list that were learned as well.
    corpus: what it was trained on, what was held out included. measured: of the texts that were
    held out; of none where the corpus is too short. seconds: of training and measuring here.
    """

    folder: Path
    kind: str
    size: int
    asked: int
    twice: int
    corpus: Survey
    measured: Measured
    seconds: float
    tokenizer: Tokenizer


def train_tokenizer(
    kind: TokenizerKind | str,
    texts: Seq[str] | Texts,
    size: int,
    out: str | os.PathLike[str],
    *,
    held_out: float = 0.02,
    seed: int = 0,
    special: Seq[str] = (),
    normalize: str = "none",
    work: str | os.PathLike[str] | None = None,
    told: Told | None = None,
) -> Trained:
    """Trains a tokenizer and writes its folder.

    Args:
        kind: one with its options, as `Bpe(digits="r2l")`, or the name of one, as "bpe".
        texts: documents; a list, or what gives them anew each time it is called.
        size: tokens of the vocabulary, special ones included.
        out: folder to write. Files of the same names in it are overwritten, and those of another
            tokenizer that would be read beside them are removed.
        held_out: share of the texts, from 0 to 0.5, that is not trained on but measured.
        seed: decides which share.
        special: tokens beside the one that ends a text, which is always there: `<|endoftext|>`, or
            what the kind's option `end` says.
        normalize: what is done to a text before all else: none, nfc, nfkc or lowercase.
        work: folder for what was done so far (default: OUT.run). What was written there is
            removed at the end, and the folder where nothing else lies in it.
        told: called with progress.

    Returns:
        The tokenizer, and its bytes and words a token on what was held out.

    Raises:
        TokenizerError: for texts, a size or settings that cannot be trained with; nothing is
            written then.
    """
    begin = time.perf_counter()
    chosen, place = _kind(kind), Path(out)
    marks = special_tokens(chosen, special)
    check_settings(chosen, size, marks, normalize, held_out)
    folder = work_of(place, None if work is None else Path(work))
    chosen = _normalizing(chosen, normalize)
    corpus = texts if callable(texts) else _given(texts)
    tell = told or _silent
    found = survey(corpus, tell)
    _check_reach(chosen, size, marks, found)
    settings = {
        "kind": str(chosen), "size": size, "special": list(marks), "normalize": normalize,
        "held_out": held_out, "seed": seed, "corpus": found.fingerprint, "version": __version__,
        **_files(chosen),
    }  # fmt: skip
    with alone_in(folder, "training", TokenizerError):
        kept = Work(folder, settings)
        parts = Parts(corpus, held_out, seed)
        tokenizer = kept.trained()
        if tokenizer is None:
            texts = _counted(parts, found, normalize, tell)
            tokenizer = kept.keep(_train(chosen, texts, size, marks, normalize, kept, tell))
        tell("measuring", 0.0)
        figures = measure(tokenizer, parts.held_out())
        _write(place, tokenizer, chosen, marks, {**settings, "corpus": asdict(found)})
        kept.done()
    got = tokenizer.get_vocab_size()
    twice = _twice(chosen, tokenizer, marks) if got < size else 0
    return Trained(
        place, str(chosen), got, size, twice, found, figures, time.perf_counter() - begin, tokenizer
    )


def special_tokens(kind: TokenizerKind, more: Seq[str]) -> tuple[str, ...]:
    """The special tokens of a vocabulary, the end of a text first.

    Args:
        kind: says which one that is.
        more: beside it.

    Raises:
        TokenizerError: one is empty, holds nothing but spaces, or would be read as bytes.
    """
    found = tuple(dict.fromkeys((kind.end_token(), *more)))
    if any(not each.strip() for each in found):
        raise TokenizerError(
            "the end of a text or another special token is empty: give it some letters, or leave "
            "it out"
        )
    for each in found:
        if _LETTERS.issuperset(each) and (len(each) == 1 or not each.isascii()):
            raise TokenizerError(
                f"the special token {each!r} is written as bytes are, so that it or a text would "
                "not come back: give it several letters of ASCII, as in <|end|>"
            )
    return found


def check_settings(
    kind: TokenizerKind, size: int, special: Seq[str], normalize: str, held_out: float
) -> None:
    """Refuses what no corpus would make right.

    Args:
        kind, size, normalize, held_out: as for `train_tokenizer`.
        special: all of them.

    Raises:
        TokenizerError: says what is wrong and what is allowed.
    """
    if normalize not in NORMALIZERS:
        raise TokenizerError(f"normalize={normalize}{hint(normalize, NORMALIZERS)}")
    if not 0 <= held_out <= 0.5:
        raise TokenizerError(f"held_out={held_out}: allowed is a share from 0 to 0.5")
    kind = _normalizing(kind, normalize)
    added = len(_added(kind, special))
    least = kind.least() + added
    if size < least:
        raise TokenizerError(
            f"size={size}: {kind.name} begins with {kind.least():,} tokens, and {added} special "
            f"ones are added: give at least {least:,}, better some thousands"
        )
    kind.check()


def _check_reach(kind: TokenizerKind, size: int, special: Seq[str], corpus: Survey) -> None:
    """Refuses far more tokens than a corpus has bytes, before memory is asked for them."""
    most = max(kind.least() + len(_added(kind, special)) + corpus.bytes, _ANYWAY)
    if size > most:
        raise TokenizerError(
            f"size={size:,}: a corpus of {corpus.bytes:,} bytes cannot give so many tokens: ask "
            f"for {most:,} at most, or give more text"
        )


def _added(kind: TokenizerKind, special: Seq[str]) -> list[str]:
    """The special tokens that a kind does not train itself."""
    return [each for each in special if each not in kind.special()]


def _kind(kind: TokenizerKind | str) -> TokenizerKind:
    if not isinstance(kind, str):
        return kind
    found = KINDS.get(kind)
    if found is None:
        raise TokenizerError(f"there is no kind of tokenizer {kind!r}{hint(kind, KINDS)}")
    return found()


def _files(kind: TokenizerKind) -> dict[str, list[str]]:
    """What tells whether the files that a kind reads are the same ones."""
    texts = [Path(os.path.expanduser(each)).read_bytes() for each in kind.reads()]
    return {"files": [hashlib.sha256(each).hexdigest() for each in texts]} if texts else {}


def _normalizing(kind: TokenizerKind, normalize: str) -> TokenizerKind:
    step = NORMALIZERS[normalize]
    return kind if step is None else kind.normalizing(step().normalize_str)


def _twice(kind: TokenizerKind, tokenizer: Tokenizer, special: Seq[str]) -> int:
    """Tokens that were learned, and were to be added as well."""
    learned = tokenizer.get_vocab(with_added_tokens=False)
    return sum(each in learned for each in _added(kind, special)) + kind.learned_twice(tokenizer)


def _train(
    kind: TokenizerKind, texts: Texts, size: int, special: Seq[str], normalize: str, work: Work,
    told: Told,
) -> Tokenizer:  # fmt: skip
    step = NORMALIZERS[normalize]
    try:
        tokenizer = kind.train(texts, size - len(_added(kind, special)), work.of_kind, told)
        if step is not None:
            own = [] if tokenizer.normalizer is None else [tokenizer.normalizer]
            tokenizer.normalizer = normalizers.Sequence([step(), *own])
        marks = [AddedToken(each, special=True, normalized=False) for each in special]
        tokenizer.add_special_tokens(marks)
        return kind.finish(tokenizer)
    except TokenizerError:
        # What was begun here is of no use to the command that is mended.
        if work.begun:
            work.done()
        raise


def _counted(parts: Parts, corpus: Survey, normalize: str, told: Told) -> Texts:
    """The texts to train on, as the normalizer leaves them; tells how far each pass is."""
    step = NORMALIZERS[normalize]
    change = None if step is None else step().normalize_str

    def texts() -> Iterator[str]:
        done = 0
        for text in parts.trained():
            done += len(text)
            told("reading the corpus", done / corpus.characters)
            yield text if change is None else change(text)
        if not done:
            raise TokenizerError(f"the texts came once, and none when asked for again: {_ANEW}")

    return texts


def _write(
    place: Path, tokenizer: Tokenizer, kind: TokenizerKind, special: Seq[str],
    record: dict[str, Any],
) -> None:  # fmt: skip
    """The files of a folder, `tokenizer.json` last: what reads it finds the others."""
    end, *others = special
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast", "eos_token": end,
        "additional_special_tokens": others,
        "clean_up_tokenization_spaces": False, "model_max_length": _NO_LIMIT,
    }  # fmt: skip
    files = {
        RECORD: json.dumps(record, indent=1),
        **kind.files(tokenizer),
        "tokenizer_config.json": json.dumps(config, indent=1),
        "tokenizer.json": tokenizer.to_str(),
    }
    for name in _STALE:
        (place / name).unlink(missing_ok=True)
    for name, text in files.items():
        write_text(place / name, text)


def _given(texts: Any) -> Texts:
    if isinstance(texts, str):
        raise TokenizerError("texts is one text: give a list of texts, as in [text]")
    if iter(texts) is texts:
        raise TokenizerError(
            f"texts can be gone through once, and several times are needed: {_ANEW}"
        )
    return lambda: iter(texts)


def _silent(what: str, share: float) -> None:
    pass


__all__ = ["END", "RECORD", "Trained", "check_settings", "special_tokens", "train_tokenizer"]
