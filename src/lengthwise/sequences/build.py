"""The pipeline: documents, tokens, order, rows, files; stopped anywhere, it goes on from there.

What is finished is never done twice: the token store, then one journal entry a part, and the
manifest last of all. A folder with a manifest is whole.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lengthwise._utils.files import ASIDE
from lengthwise._utils.locks import alone_in
from lengthwise._utils.progress import Progress
from lengthwise.errors import LengthwiseError
from lengthwise.sequences.builders.base import settings_of
from lengthwise.sequences.documents import Survey
from lengthwise.sequences.encoder import Encoder
from lengthwise.sequences.engines import Engine, Local
from lengthwise.sequences.errors import NotAsAskedError, SequenceError
from lengthwise.sequences.files import (
    digest,
    read_json,
    said_plainly,
    sweep,
    write_json,
    written_aside,
)
from lengthwise.sequences.manifest import make_manifest, report
from lengthwise.sequences.orders import Order, Shuffle, Source, by_repository
from lengthwise.sequences.plan import Part, parts
from lengthwise.sequences.store import ABOUT, FORMAT, MANIFEST, TOKENIZER, manifest_in
from lengthwise.sequences.task import ORDERS, Build, Entry, Settings, build_part
from lengthwise.sequences.token_store import TokenStore
from lengthwise.sequences.tokenise import STATE, UNFINISHED, tokenise

CLAIM = "build.json"
"""In the folder of a build that has begun: whose it is."""
_READING = 1
"""Version of how sources become tokens: token stores of another one are others."""

__all__ = ["ORDERS", "Build", "Progress", "Settings", "build", "build_part", "open_order"]


def build(
    task: Build, progress: Progress | None = None, engine: Engine | None = None
) -> dict[str, Any]:
    """Makes the data set, or goes on making it, and returns its manifest.

    engine: who tokenises and builds parts; the bytes are the same with each.

    Raises SequenceError for bad sources, a folder that holds something else or that another build
    is at work in, and a full disk.
    """
    for path in (task.folder, task.tokens):
        if task.sources.hold(path):
            raise SequenceError(
                f"{path} lies in a folder that is read: what is built would become a source; name "
                "a folder outside it"
            )
    survey = task.sources.survey()
    made = not task.folder.exists()
    with said_plainly(task.folder):
        task.folder.mkdir(parents=True, exist_ok=True)
    with alone_in(task.folder, "build", SequenceError):
        begun = (task.folder / CLAIM).exists() or manifest_in(task.folder) is not None
        try:
            return _build(task, survey, progress or Progress(), engine or Local())
        except LengthwiseError:
            if not begun:
                _unclaim(task, made)
            raise


def _build(task: Build, survey: Survey, progress: Progress, engine: Engine) -> dict[str, Any]:
    source_key = digest([_READING, survey.fingerprint, task.encoder.fingerprint, task.encoder.end])
    _claim(task, source_key)
    if place := manifest_in(task.folder):
        _tidy(task.folder)
        progress.note(f"{task.folder} is whole already")
        return dict(read_json(place))
    sweep(task.folder)
    _drop_others(task, source_key, progress)
    if not (task.tokens / "store.json").exists():
        _require_new(task.tokens)
        progress.stage("tokenising", survey.bytes, "bytes")
        # A character takes some 60 bytes of memory on its way through the tokenizer.
        batch = min(1 << 22, task.settings.memory >> 8)
        encoder = engine.encoder(task.encoder)
        tokenise(task.sources, encoder, task.tokens, source_key, progress, batch)
    (task.tokens / STATE).unlink(missing_ok=True)
    store = task.open_store()
    if store.facts["key"] != source_key:
        raise SequenceError(
            f"{task.tokens} holds the tokens of other sources or another tokenizer: delete it, or "
            "name another folder"
        )
    try:
        entries = _entries(task, store, progress, engine)
        manifest = make_manifest(task.builder, task.encoder, store, entries)
    except NotAsAskedError:
        # Other options may be tried in this folder: nothing but its tokens stays.
        _tidy(task.folder)
        shutil.rmtree(task.folder / ABOUT, ignore_errors=True)
        raise
    manifest |= task.settings.kept() | {"key": _key(task, source_key), "not_read": survey.passed}
    report(manifest, progress)
    write_json(task.folder / ABOUT / MANIFEST, manifest)
    _tidy(task.folder)
    return manifest


def open_order(
    settings: Settings,
    store: TokenStore,
    folder: Path,
    encoder: Encoder | None = None,
    progress: Progress | None = None,
) -> Order:
    """The order that settings name; what it has to keep on disk goes to `folder`.

    encoder: the corpus's, for an order that has to read texts.
    """
    if settings.order == "source":
        return Source()
    if settings.order == "shuffle":
        return Shuffle(store.documents, settings.seed)
    if settings.order == "by-repository":
        return by_repository(store, settings.seed, folder / "order.bin")
    from lengthwise.sequences.icp import in_context

    return in_context(store, folder, encoder, settings.encoder, progress or Progress())


def _entries(task: Build, store: TokenStore, progress: Progress, engine: Engine) -> list[Entry]:
    """The entries of all parts, those of an earlier run included."""
    journal = task.folder / "journal"
    if task.builder.tokens:
        task.encoder.add(task.builder.tokens)
    task.builder.prepare(store, task.encoder, task.settings.seed)
    with said_plainly(task.folder):
        journal.mkdir(exist_ok=True)
    if not (task.folder / ABOUT / TOKENIZER).exists():
        with written_aside(task.folder / ABOUT / TOKENIZER) as aside:
            task.encoder.tokenizer.save(str(aside))
    if task.settings.order == "icp" and task.builder.document_mask:
        progress.note(
            f"{task.builder.name} keeps attention within documents, so that the order icp does "
            "nothing for it: concat and utk attend across them"
        )
    order = open_order(task.settings, store, journal, task.encoder, progress)
    order = task.builder.arrange(order, store, journal)
    progress.stage(f"building {task.builder.name}", store.tokens, "tokens")
    found: dict[int, Entry] = {}

    def todo() -> Iterator[Part]:
        for part in parts(store, order, task.builder):
            place = _place(journal, part)
            if place.exists():
                found[part.number] = read_json(place)
                progress.advance(part.tokens, part.tokens)
            else:
                yield part

    for part, entry in engine.build(task, todo(), store, order):
        write_json(_place(journal, part), entry)
        found[part.number] = entry
        progress.advance(part.tokens, part.tokens)
    entries = [found[number] for number in sorted(found)]
    if left_out := getattr(order, "left_out", {}):
        entries.append({"shards": [], "dropped": left_out, "figures": {}})
    return entries


def _place(journal: Path, part: Part) -> Path:
    return journal / f"{part.number:05d}.json"


def _key(task: Build, source_key: str) -> str:
    kept = task.settings.kept()
    options = settings_of(task.builder)
    for name, value in task.builder.later.items():
        if options[name] == value:
            del options[name]
    return digest([source_key, task.builder.name, options, kept])


def _key_in(path: Path) -> str | None:
    """The key in a manifest or a claim; None where the file is of something else."""
    found = read_json(path)
    return found.get("key") if isinstance(found, dict) else None


def _claim(task: Build, source_key: str) -> None:
    """Makes sure that the folder is new or this build's own."""
    mine = _key(task, source_key)
    # What a version with another layout began is not gone on with; what it finished is whole.
    claim = digest([FORMAT, mine])
    with said_plainly(task.folder):
        found = {path.name for path in task.folder.iterdir()}
    if place := manifest_in(task.folder):
        same = _key_in(place) == mine
    elif (task.folder / CLAIM).exists():
        same = _key_in(task.folder / CLAIM) == claim
    else:
        mine_too = (task.tokens.name, task.tokens.name + UNFINISHED)
        same = all(name in mine_too or name.endswith(ASIDE) for name in found)
    if not same and place and _is_earlier(place):
        raise SequenceError(
            f"{task.folder} was finished by an earlier version, which knew its sources by other "
            "marks: it is read and trained on as it is, and to build it anew delete it, or name "
            "another folder with --out"
        )
    if not same:
        raise SequenceError(
            f"{task.folder} holds something else than this build (other sources, tokenizer, method "
            "or options): delete it, or name another folder with --out"
        )
    if place is None and CLAIM not in found:
        write_json(task.folder / CLAIM, {"key": claim})


def _is_earlier(manifest: Path) -> bool:
    """Whether a manifest is that of a data set that an earlier version finished."""
    found = read_json(manifest)
    ours = isinstance(found, dict) and "shards" in found
    return ours and found.get("format", FORMAT) < FORMAT


def _unclaim(task: Build, made: bool) -> None:
    """Gives up the folder of a build that failed before its first part, so that a mended one may
    have it. Tokens stay, for they are dear. made: this build made the folder."""
    journal = task.folder / "journal"
    if any(journal.glob("*.json")):
        return
    _tidy(task.folder)
    shutil.rmtree(task.folder / ABOUT, ignore_errors=True)
    unfinished = _unfinished(task)
    if unfinished.is_dir() and not (unfinished / STATE).exists():
        shutil.rmtree(unfinished, ignore_errors=True)
    if made and not any(task.folder.iterdir()):
        task.folder.rmdir()


def _unfinished(task: Build) -> Path:
    """Where its tokens lie until they are all there."""
    return task.tokens.parent / (task.tokens.name + UNFINISHED)


def _drop_others(task: Build, source_key: str, progress: Progress) -> None:
    """Deletes tokens of other sources in this build's own folder: of one that failed, and that was
    mended. Tokens that are shared lie elsewhere and stay."""
    if task.tokens.parent.resolve() != task.folder.resolve():
        return
    for folder, name in ((task.tokens, "store.json"), (_unfinished(task), STATE)):
        if (folder / name).is_file() and _key_in(folder / name) != source_key:
            progress.note(f"{folder} has tokens of other sources, or another tokenizer: made anew")
            shutil.rmtree(folder)


def _require_new(tokens: Path) -> None:
    """Makes sure that a folder of tokens can be put there, before they are worked out."""
    free = not tokens.exists() or (tokens.is_dir() and not any(tokens.iterdir()))
    if not free or tokens == Path.cwd():
        raise SequenceError(
            f"{tokens} holds something else than tokens: name a new folder with --tokens"
        )


def _tidy(folder: Path) -> None:
    """Takes away what was for going on."""
    shutil.rmtree(folder / "journal", ignore_errors=True)
    (folder / CLAIM).unlink(missing_ok=True)
