"""A tokenizer as sequences need one: fast, whole texts to ids, with an end token that is known.

Special tokens written out in a text are text: only the end of a document makes an end token.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from lengthwise._utils.embedded_file import EMBEDDED
from lengthwise._utils.hub import absent
from lengthwise._utils.messages import first_line
from lengthwise._utils.suggestions import did_you_mean, hint
from lengthwise.sequences.cache import embedded_tokenizer
from lengthwise.sequences.errors import SequenceError
from lengthwise.tokenization.end_tokens import declared_end, specials_of, usual_end
from lengthwise.tokenization.id_range import id_range

Ids = NDArray[np.int32]

BYTES = "bytes"
_ALLOWED = (
    f"allowed are {EMBEDDED}, {BYTES}, a tokenizer.json, a model's folder, a .gguf file or a hub "
    "name"
)
_END = "<|endoftext|>"


class Encoder:
    """tokenizer: of the `tokenizers` library. end_token: appended once to every document.

    vocab_size: rows that embeddings need: its largest id and one.

    Raises SequenceError where the tokenizer has no such token.
    """

    def __init__(self, tokenizer: Tokenizer, end_token: str) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        tokenizer.encode_special_tokens = True
        end = tokenizer.token_to_id(end_token)
        if end is None:
            raise SequenceError(
                f"the tokenizer has no token {end_token!r} to end documents with"
                f"{hint(end_token, specials_of(tokenizer))}"
            )
        self.tokenizer, self.end_token, self.end = tokenizer, end_token, int(end)
        self.vocab_size = id_range(tokenizer)
        self.fingerprint = hashlib.sha256(tokenizer.to_str().encode()).hexdigest()

    def __setstate__(self, state: dict[str, Any]) -> None:
        """A pickled tokenizer has lost that special tokens are text, which no file of one says."""
        self.__dict__.update(state)
        self.tokenizer.encode_special_tokens = True

    def encode(self, texts: list[str]) -> list[Ids]:
        """The ids of each text, without any special token."""
        found = self.tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        return [np.array(one.ids, dtype=np.int32) for one in found]

    @property
    def dtype(self) -> np.dtype[np.uint16] | np.dtype[np.int32]:
        """The narrowest type that its ids are stored in."""
        return np.dtype(np.uint16) if self.vocab_size <= 1 << 16 else np.dtype(np.int32)

    def add(self, tokens: tuple[str, ...]) -> dict[str, int]:
        """The id of each token, which joins the vocabulary as a special one if it is new.

        Works on `tokenizer`, not on the fingerprint: texts are encoded as before.
        """
        self.tokenizer.add_special_tokens([AddedToken(token, special=True) for token in tokens])
        self.vocab_size = id_range(self.tokenizer)
        return {token: self.id_of(token) for token in tokens}

    def id_of(self, token: str) -> int:
        """The id of a token that is in the vocabulary."""
        return int(self.tokenizer.token_to_id(token) or 0)


class ByteEncoder(Encoder):
    """Bytes as tokens, 0 to 255, and 256 as the end: a vocabulary for models of little size."""

    def __init__(self) -> None:
        super().__init__(byte_tokenizer(), _END)

    def encode(self, texts: list[str]) -> list[Ids]:
        return [np.frombuffer(text.encode(), np.uint8).astype(np.int32) for text in texts]


def load_encoder(name: str = EMBEDDED, end_token: str | None = None) -> Encoder:
    """name: `embedded` (the default model's), `bytes`, a tokenizer.json, the folder of a model, a
    .gguf file, or a hub name.

    The end token, where none is given, is what the model's configuration calls its end of text;
    for a tokenizer.json alone, the one token of it that usually is.

    Raises SequenceError where there is no tokenizer or no end token.
    """
    if name == BYTES:
        if end_token not in (None, _END):
            raise SequenceError(f"the tokenizer `bytes` ends documents with {_END!r} only")
        return ByteEncoder()
    if name == EMBEDDED:
        return Encoder(Tokenizer.from_file(str(embedded_tokenizer())), end_token or _END)
    tokenizer, declared = _load(name)
    end = end_token or declared or usual_end(tokenizer)
    if end is None:
        raise SequenceError(
            f"the tokenizer {name} names no end token: choose one with --end-token"
            f"{hint('', specials_of(tokenizer))}"
        )
    return Encoder(tokenizer, end)


def byte_tokenizer() -> Tokenizer:
    """256 bytes and an end token, in order, as a tokenizer that other programs can load."""
    vocabulary = {character: byte for byte, character in enumerate(_byte_characters())}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([_END])
    return tokenizer


def _byte_characters() -> list[str]:
    """The printable character that byte-level tokenizers write for each byte."""
    plain = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte) if byte in plain else chr(next(others)) for byte in range(256)]


def _load(name: str) -> tuple[Tokenizer, str | None]:
    if not name.strip():
        raise SequenceError(f"the tokenizer's name is empty; the default is {EMBEDDED}")
    path = Path(name)
    file = path / "tokenizer.json" if path.is_dir() else path
    if file.suffix == ".gguf" and file.is_file():
        from lengthwise._utils.gguf_tokenizer import load_gguf_tokenizer

        loaded = load_gguf_tokenizer(file)
        return loaded.backend_tokenizer, loaded.eos_token
    try:
        if file.is_file():
            return Tokenizer.from_file(str(file)), declared_end(file.parent)
        if path.exists():
            raise SequenceError(
                f"{name} holds no tokenizer.json: save it with a fast tokenizer, or name the file"
            )
        fetched = _fetched(name)
        return Tokenizer.from_file(str(fetched)), declared_end(fetched.parent)
    except SequenceError:
        raise
    except Exception as error:  # tokenizers raises bare Exception, the hub whatever went wrong
        reason = first_line(error)
        raise SequenceError(f"no tokenizer at {name!r} ({reason}); {_ALLOWED}") from error


def _fetched(name: str) -> Path:
    """The tokenizer.json of a model on the hub, or the copy of it that was fetched before."""
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    if why := absent(name, fetched=False):
        with suppress(HFValidationError):
            kept = try_to_load_from_cache(name, "tokenizer.json")
            if isinstance(kept, str):
                return Path(kept)
        meant = did_you_mean(name, (EMBEDDED, BYTES))
        raise SequenceError(f"no tokenizer {name!r}{meant} ({why}); {_ALLOWED}")
    fetched = Path(hf_hub_download(name, "tokenizer.json"))
    hf_hub_download(name, "tokenizer_config.json")
    return fetched
