"""A tokenizer whose ids are morphemes: forms that sound makes of one suffix or root share an id.

Bayram et al., "Tokens with Meaning", arXiv:2508.14292 (`trainers/hybrid.py` trains it). Text is cut
by `tokenizer.json`, which keeps forms apart; forms of one another have one id here. To decode, each
form is chosen by the vowel before it, the consonant before it and the letter after it
(`turkish.py`). That fails where a word does not follow the rules; `fails` says whether it does.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizer

from lengthwise._utils.files import write_text
from lengthwise.errors import TokenizerError
from lengthwise.tokenization.trainers.byte_level import unspelled
from lengthwise.tokenization.trainers.hybrid import MORPHEMES
from lengthwise.tokenization.trainers.wordpiece import WITHIN
from lengthwise.tokenization.turkish import chosen


class MorphemeTokenizer(PreTrainedTokenizer):
    """Shared ids for the forms of a suffix or root; made by `from_pretrained` of a folder that
    `lengthwise tokenizer train hybrid` wrote.

    vocab_file: `morphemes.json`, lists of tokens that share an id. surface_file: `tokenizer.json`.
    """

    vocab_files_names = {"vocab_file": MORPHEMES, "surface_file": "tokenizer.json"}
    model_input_names = ["input_ids", "attention_mask"]

    def __init__(
        self, vocab_file: str | None = None, surface_file: str | None = None, **options: Any
    ) -> None:
        if vocab_file is None or surface_file is None:
            raise TokenizerError(
                f"a MorphemeTokenizer needs {MORPHEMES} and tokenizer.json beside each other: name "
                "a folder that `lengthwise tokenizer train hybrid` wrote"
            )
        self._surface = Tokenizer.from_file(surface_file)
        self._groups = _read(vocab_file)
        lead = {form: group[0] for group in self._groups for form in group}
        special = {t.content for t in self._surface.get_added_tokens_decoder().values()}
        by_id = sorted(self._surface.get_vocab().items(), key=lambda item: item[1])
        self._lead = {token: lead.get(token, token) for token, _ in by_id if token not in special}
        names = dict.fromkeys(self._lead.values())
        self._ids = {name: number for number, name in enumerate(names)}
        self._names = list(names)
        self._forms = {group[0]: group for group in self._groups}
        # Ids of special tokens there are those of the plain tokenizer.
        options.pop("added_tokens_decoder", None)
        super().__init__(**options)  # type: ignore[no-untyped-call]

    @property
    def vocab_size(self) -> int:
        """Ids, special tokens apart."""
        return len(self._names)

    def get_vocab(self) -> dict[str, int]:
        """Every token, by the first form of those that share an id."""
        return self._ids | self.added_tokens_encoder

    def fails(self, text: str) -> bool:
        """Whether a text is decoded as another.

        Args:
            text: any.
        """
        ids = self.encode(text, add_special_tokens=False)
        return str(self.decode(ids)) != text

    def _tokenize(self, text: str, **options: Any) -> list[str]:
        tokens = self._surface.encode(text, add_special_tokens=False).tokens
        return [self._lead[token] for token in tokens]

    def _convert_token_to_id(self, token: str) -> int | None:
        return self._ids.get(token)

    def _convert_id_to_token(self, index: int) -> str:
        return self._names[index]

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        """The text of tokens, forms chosen from the left.

        Args:
            tokens: as `tokenize` gives them.
        """
        said = b""
        for place, token in enumerate(tokens):
            forms = self._forms.get(token)
            if forms is None or len(forms) == 1:
                said += _bytes(token)
                continue
            written = {_bytes(form).decode(): form for form in forms}
            last = said.decode("utf-8", "replace").split()[-1:] if token.startswith(WITHIN) else []
            found = chosen(list(written), "".join(last), _after(tokens, place))
            said += found.encode()
        return said.decode("utf-8", "replace")

    def save_vocabulary(
        self, save_directory: str, filename_prefix: str | None = None
    ) -> tuple[str, ...]:
        """Writes both files.

        Args:
            save_directory: an existing folder.
            filename_prefix: stands before their names.
        """
        begin = f"{filename_prefix}-" if filename_prefix else ""
        paths = [os.path.join(save_directory, begin + name) for name in
                 self.vocab_files_names.values()]  # fmt: skip
        write_text(paths[0], json.dumps(self._groups, indent=0))
        write_text(paths[1], self._surface.to_str())
        return tuple(paths)


def _bytes(token: str) -> bytes:
    return unspelled(token.removeprefix(WITHIN))


def _after(tokens: list[str], place: int) -> str:
    """How the token behind a place begins, where it goes on with the word."""
    after = tokens[place + 1] if place + 1 < len(tokens) else ""
    return _bytes(after).decode("utf-8", "replace") if after.startswith(WITHIN) else ""


def _read(path: str) -> list[list[str]]:
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise TokenizerError(f"{path} cannot be read as lists of tokens: {error}") from error
    if not isinstance(found, list) or not all(isinstance(each, list) for each in found):
        raise TokenizerError(f"{path} holds no lists of tokens: train the tokenizer again")
    return found


__all__ = ["MorphemeTokenizer"]
