"""The tokenizer that a trained model carries, and whether a checkpoint's is that of its data.

Rows are numbers, and another tokenizer's numbers are other words: a model trained on them forgets
what it knew and nothing fails. So a checkpoint is trained on rows of its own tokenizer, and its
model/ keeps the files that it came with: tokenizer, chat template, generation settings.
"""

from __future__ import annotations

import fnmatch
import json
import tempfile
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer

from lengthwise._utils.messages import first_line
from lengthwise.sequences.encoder import Encoder
from lengthwise.sequences.errors import SequenceError
from lengthwise.training.config import TrainingError

Files = dict[str, bytes]
"""What is in files, by their names under the folder of a model."""
GENERATION = "generation_config.json"
_TOKENIZER = "tokenizer.json"
_KEPT = (
    GENERATION, _TOKENIZER, "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "tokenizer.model", "tokenizer.model.v*", "tekken.json", "*.tiktoken", "vocab.json", "vocab.txt",
    "merges.txt", "*.spm", "spiece.model", "sentencepiece*.model", "chat_template.*",
    "chat_templates/*", "additional_chat_templates/*",
)  # fmt: skip
# What decides on the ids of a text, in the words of the `tokenizers` library.
_DECIDING = ("model", "normalizer", "pre_tokenizer")
_SHOWN = 12


def kept_files(folder: Path) -> Files:
    """The files of a model's folder that its weights and sizes say nothing of."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        # A pattern's star would also stand for a folder.
        if path.is_file() and any(
            fnmatch.fnmatch(name, each) and name.count("/") == each.count("/") for each in _KEPT
        ):
            found[name] = path.read_bytes()
    return found


def written(folder: Path, files: Files) -> None:
    """Puts the files into the folder of a model."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def files_of_data(built: Path, manifest: dict[str, Any]) -> Files:
    """The tokenizer of a data set, whose file `built` is, as transformers reads it."""
    from transformers import PreTrainedTokenizerFast

    with tempfile.TemporaryDirectory() as place:
        PreTrainedTokenizerFast(
            tokenizer_file=str(built), eos_token=manifest["tokenizer"]["end_token"]
        ).save_pretrained(place)
        return kept_files(Path(place))


def files_of_checkpoint(
    checkpoint: Path, data: Path, built: Path, manifest: dict[str, Any], wanted: str
) -> tuple[Files, str | None]:
    """(What the trained model is to carry, something that is to be said of it).

    data: the folder of the data set; built: its tokenizer's file. wanted: `same`, a tokenizer that
    gives texts the ids of the data; `checkpoint`, its own whatever the data's is; `data`, the
    data's. Tokens that the data's method added are added.
    Raises TrainingError where the data was built with another tokenizer than `same`.
    """
    files = kept_files(checkpoint)
    if wanted == "data":
        return _instead(files, built, manifest), None
    own = _tokenizer(checkpoint, files)
    if own is None:
        return _instead(files, built, manifest), (
            f"{checkpoint} has no tokenizer that could be compared with the data's: it is taken "
            "for the same, and model/ gets the data's"
        )
    if wanted == "same":
        _require_same(own, checkpoint, data, built, manifest)
    return _with_added(files, own, checkpoint, manifest["added_tokens"]), None


def _instead(files: Files, built: Path, manifest: dict[str, Any]) -> Files:
    kept = {GENERATION: files[GENERATION]} if GENERATION in files else {}
    return kept | files_of_data(built, manifest)


def _tokenizer(checkpoint: Path, files: Files) -> Tokenizer | None:
    """The checkpoint's, a slow one as transformers converts it; None where there is none."""
    try:
        if _TOKENIZER in files:
            return Tokenizer.from_str(files[_TOKENIZER].decode())
        from transformers import AutoTokenizer

        if not files.keys() - {GENERATION}:
            return None
        found = AutoTokenizer.from_pretrained(checkpoint, local_files_only=True)
        converted: Tokenizer | None = getattr(found, "backend_tokenizer", None)
    except Exception as error:  # of tokenizers, and of whatever a slow tokenizer needs
        why = first_line(error)
        raise TrainingError(
            f"the tokenizer of model.checkpoint {checkpoint} cannot be read: {why}; mend it, or "
            "set model.tokenizer = 'data' for the data's"
        ) from error
    return converted


def _require_same(
    own: Tokenizer, checkpoint: Path, data: Path, built: Path, manifest: dict[str, Any]
) -> None:
    theirs = manifest["tokenizer"]["fingerprint"]
    try:
        mine = Encoder(own, manifest["tokenizer"]["end_token"]).fingerprint
    except SequenceError:
        mine = f"without {manifest['tokenizer']['end_token']!r}"
    if mine == theirs:
        return
    added = set(manifest["added_tokens"])
    if built.is_file() and _same_ids(own, Tokenizer.from_file(str(built)), added):
        return
    raise TrainingError(
        f"{data} was built with another tokenizer (fingerprint {theirs[:_SHOWN]}) than that of "
        f"model.checkpoint {checkpoint} ({mine[:_SHOWN] if len(mine) == 64 else mine}), so its "
        f"numbers are other words to the model: build the data again with -t {checkpoint}; or, if "
        "you know that they agree, set model.tokenizer = 'checkpoint' or 'data', whichever model/ "
        "is to carry"
    )


def _same_ids(one: Tokenizer, other: Tokenizer, added: set[str]) -> bool:
    """Whether both give every text the same ids, special tokens written in it being text.

    One that was saved by another program, or has special tokens more, has another fingerprint.
    """
    first, second = (json.loads(each.to_str()) for each in (one, other))
    if any(first[key] != second[key] for key in _DECIDING):
        return False
    plain, special = [], []
    for table in (first, second):
        tokens = table["added_tokens"]
        plain.append([each for each in tokens if not each["special"]])
        special.append({t["content"]: t["id"] for t in tokens if t["special"]})
    shared = special[0].keys() & special[1].keys()
    if plain[0] != plain[1] or any(special[0][each] != special[1][each] for each in shared):
        return False
    # A number has one meaning: tokens that one has alone stand where the other has none.
    ids = [{number: token for token, number in each.items()} for each in special]
    return all(ids[0][n] == ids[1][n] for n in ids[0].keys() & ids[1].keys()) and (
        special[1].keys() - special[0].keys() <= added
    )


def _with_added(files: Files, own: Tokenizer, checkpoint: Path, added: dict[str, int]) -> Files:
    """The files with a tokenizer that has the tokens which the data's method added."""
    if not added:
        return files
    # As the file says it, and not as it was made ready for comparing.
    if _TOKENIZER in files:
        own = Tokenizer.from_str(files[_TOKENIZER].decode())
    tokens = sorted(added, key=lambda token: added[token])
    own.add_special_tokens([AddedToken(token, special=True) for token in tokens])
    for token in tokens:
        if own.token_to_id(token) != added[token]:
            raise TrainingError(
                f"the data has {token!r} as token {added[token]:,} and the tokenizer of "
                f"model.checkpoint {checkpoint} would have it as {own.token_to_id(token):,}: build "
                f"the data again with -t {checkpoint}"
            )
    return files | {_TOKENIZER: own.to_str(pretty=True).encode()}
