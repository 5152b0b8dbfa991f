"""`lengthwise tokenizer train`: a tokenizer of one's own, out of one's own text."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lengthwise._utils.outputs import check_folder
from lengthwise._utils.plural import many
from lengthwise.cli.arguments import COUNT, NATURAL, Place, Real, check_text
from lengthwise.cli.bars import Bar
from lengthwise.errors import LengthwiseError, TokenizerError

if TYPE_CHECKING:
    from lengthwise.sequences.documents import Sources
    from lengthwise.tokenization.trainers.kind import TokenizerKind
    from lengthwise.tokenization.trainers.training import Trained


class TrainingBar(Bar):
    """A bar of what a training is at; a stage begins where it says something new."""

    def __init__(self) -> None:
        super().__init__()
        self._said = ""

    def told(self, what: str, share: float) -> None:
        """Progress, as kinds tell it.

        Args:
            what: is being done.
            share: that is done, 0 to 1; 0 where that is not known.
        """
        if what != self._said:
            self.stage(what, 0, "")
            self._said = what
        if share:
            self.reached(int(1000 * share), 1000)


@click.command()
@click.argument("kind")
@click.argument("sources", nargs=-1, required=True, metavar="TEXT...")
@click.option("--out", "-o", required=True, type=Place(), help="folder of the tokenizer to write")
@click.option("--size", required=True, type=COUNT,
              help="tokens of the vocabulary, special ones included")  # fmt: skip
@click.option("--held-out", default=0.02, show_default=True, type=Real(0, 0.5),
              help="share of the text that is measured and not trained on")  # fmt: skip
@click.option("--special", multiple=True, metavar="TOKEN",
              help="a special token beside <|endoftext|>; may be repeated")  # fmt: skip
@click.option("--normalize", default="none", show_default=True,
              help="what is done to a text first: none, nfc, nfkc, lowercase")  # fmt: skip
@click.option("--seed", default=0, show_default=True, type=NATURAL,
              help="of what is held out and, in kinds that draw, of what is drawn")  # fmt: skip
@click.option("--text-field", default="text", show_default=True,
              help="the field of JSON, the column of Parquet and Arrow")  # fmt: skip
@click.option("--suffix", "suffixes", multiple=True,
              help="read these files of a folder, such as .py; may be repeated")  # fmt: skip
@click.option("--encoding", metavar="NAME",
              help="of text files that are not UTF-8, such as cp1252 (default: they are skipped "
              "and counted)")  # fmt: skip
@click.option("--work", type=Place(), help="folder of what was done so far (default: OUT.run)")
@click.option("--force", is_flag=True, help="write into a folder that holds other things")
def train(
    kind: str, sources: tuple[str, ...], out: Path, size: int, held_out: float,
    special: tuple[str, ...], normalize: str, seed: int, text_field: str,
    suffixes: tuple[str, ...], encoding: str | None, work: Path | None, force: bool,
) -> None:  # fmt: skip
    """Train a tokenizer of KIND on TEXT: bpe, unigram, wordpiece, superbpe, supertokens, swe, kl3m,
    hybrid, with its options, as in "superbpe(transition=80000)".

    TEXT is a text, code, PDF, HTML, Word, JSON, JSONL, Parquet or Arrow file, a folder of them, or
    datasets:NAME[,CONFIG][@SPLIT]. OUT holds a tokenizer.json that transformers loads. Stopped,
    even by kill -9, the same command goes on.
    """
    from lengthwise.tokenization.trainers.training import (
        check_settings,
        special_tokens,
        train_tokenizer,
    )
    from lengthwise.tokenization.trainers.work import work_of

    for each in special:
        check_text("--special", each)
    chosen = _kind(kind, seed)
    check_settings(chosen, size, special_tokens(chosen, special), normalize, held_out)
    check_folder("--out", out, sources)
    work = work_of(out, work)
    check_folder("--work", work, sources)
    _check_out(out, work, force)
    corpus = Corpus(sources, text_field, suffixes, encoding)
    corpus.check(out, work)
    with TrainingBar() as bar:
        trained = train_tokenizer(
            chosen, corpus.texts, size, out, held_out=held_out, seed=seed, special=special,
            normalize=normalize, work=work, told=bar.told,
        )  # fmt: skip
    click.echo(_summary(trained, corpus, held_out))


class Corpus:
    """The documents of sources, one text each, as often as they are asked for.

    skipped: documents that are none, by why. passed: files of folders that are not read, by why.
    """

    def __init__(
        self, sources: tuple[str, ...], field: str, suffixes: tuple[str, ...], encoding: str | None
    ) -> None:
        from lengthwise.sequences.documents import Sources
        from lengthwise.sequences.records import Fields

        fields = Fields(field, encoding=encoding)
        self._sources: Sources = Sources(sources, fields, suffixes)
        self.skipped: dict[str, int] = {}
        self.passed: dict[str, int] = {}

    def check(self, *written: Path) -> None:
        """Refuses sources that cannot be read, or that hold what is written.

        Args:
            written: folders.

        Raises:
            LengthwiseError: says which.
        """
        for each in written:
            if self._sources.hold(each / "tokenizer.json"):
                raise LengthwiseError(
                    f"{each} lies in a folder whose texts are trained on, and would be one of "
                    "them: name another place"
                )
        self.passed = self._sources.survey().passed

    def texts(self) -> Iterator[str]:
        """The documents from the first one on.

        Raises:
            TokenizerError: there is none.
        """
        count, self.skipped = 0, {}
        for _, record in self._sources.read():
            if record.skipped:
                self.skipped[record.skipped] = self.skipped.get(record.skipped, 0) + 1
                continue
            count += 1
            yield "".join(record.blocks)
        if not count:
            said = ", ".join(f"{number} {why}" for why, number in self.skipped.items())
            raise TokenizerError(
                f"there is no text to train on ({said or 'no document'}): give files that hold "
                "some, or --encoding for texts that are not UTF-8"
            )


def _kind(text: str, seed: int) -> TokenizerKind:
    """A kind with its options, of the registry."""
    from lengthwise.recipes.parser import parse_one
    from lengthwise.tokenization.trainers.kind import KINDS

    found = parse_one(text, KINDS.usable())
    options = {each.name: each.default for each in dataclasses.fields(found)}  # type: ignore[arg-type]
    if "seed" in options and getattr(found, "seed", None) == options["seed"]:
        return dataclasses.replace(found, seed=seed)  # type: ignore[type-var]
    return found


def _check_out(out: Path, work: Path, force: bool) -> None:
    from lengthwise.tokenization.trainers.training import RECORD
    from lengthwise.tokenization.trainers.work import holds

    if not force and holds(out, but=work) and not (out / RECORD).is_file():
        raise LengthwiseError(
            f"--out {out}: a folder that holds no tokenizer of lengthwise lies there: name another "
            "one, or add --force to write into it"
        )


def _summary(trained: Trained, corpus: Corpus, share: float) -> str:
    found, held = trained.corpus, trained.measured
    lines = [
        f"{trained.folder}: {trained.kind}, {trained.size:,} tokens, of "
        f"{many(found.texts, 'text')}, {found.bytes / 1e6:,.2f} MB, in {trained.seconds:.1f} s"
    ]
    lines += _fewer(trained)
    if held.tokens:
        back = (
            "every one of them comes back as it was" if not held.failures
            else f"{held.failures:,} of them do not come back as they were"
        )  # fmt: skip
        lines.append(
            f"held out: {held.bytes_per_token:.3f} bytes and {held.words_per_token:.3f} words a "
            f"token over {held.bytes:,} bytes in {many(held.texts, 'piece')}; {back}"
        )
    else:
        why = (
            f": --held-out {share:g} of so little text is less than a piece; give more text or a "
            "greater share, such as 0.2" if share else ""
        )  # fmt: skip
        lines.append(f"nothing was held out, so nothing is measured{why}")
    for what, counts in (("skipped", corpus.skipped), ("not read", corpus.passed)):
        if counts:
            said = ", ".join(f"{count:,} {why}" for why, count in counts.items())
            lines.append(f"{what}: {said}")
    return "\n".join(lines)


def _fewer(trained: Trained) -> list[str]:
    """Why there are fewer tokens than were asked for."""
    missing, twice, found = trained.asked - trained.size, trained.twice, []
    if missing > 0 and twice:
        found.append(
            f"{trained.asked:,} tokens were asked for: {twice:,} that were to be added (--special, "
            "or the kind's list) were learned from the text as well, and are one token each; ask "
            "for more"
        )
    if missing > twice:
        found.append(
            f"{trained.asked:,} tokens were asked for: there was nothing more to learn for "
            f"{trained.kind}, so give more text, ask for less, or change its options"
        )
    return found


__all__ = ["train"]
