"""`lengthwise tokenizer transplant`: another tokenizer for a model."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence as Seq
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from lengthwise._utils.embedded_file import EMBEDDED
from lengthwise._utils.outputs import check_folder
from lengthwise.cli.arguments import COUNT, NATURAL, Place, Real, check_texts
from lengthwise.cli.cartridge import CartridgeBar
from lengthwise.cli.documents import given_documents
from lengthwise.errors import LengthwiseError, TokenizerError
from lengthwise.sequences.documents import Sources
from lengthwise.sequences.records import Fields
from lengthwise.training.continued import Continued

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from lengthwise.tokenization.transplant.loss import Loss
    from lengthwise.tokenization.transplant.method import Transplant
    from lengthwise.tokenization.transplant.surgery import Transplanted

_HOW = Continued()


@dataclass(frozen=True)
class _Asked:
    """Where the new tokenizer comes from: another one, or the model's with more or fewer tokens."""

    new: str | None
    extend: int | None
    trim: bool
    fewest: int
    learn: tuple[str, ...]
    steps: int | None

    def check(self) -> None:
        """Raises TokenizerError for what does not go together."""
        given = [self.new is not None, self.extend is not None, self.trim]
        if sum(given) != 1:
            raise TokenizerError(
                "give the new tokenizer as NEW (a tokenizer.json, a folder, a .gguf file or a hub "
                "name), or one of --extend N and --trim, which change the model's own"
            )
        needed = [name for name, asks in (("--extend", self.extend), ("--trim", self.trim),
                                          ("--steps", self.steps)) if asks]  # fmt: skip
        if needed and not self.learn:
            raise TokenizerError(f"{needed[0]} needs a text: give --learn FILE, once or more")
        if self.learn and not needed:
            raise TokenizerError("--learn is for --extend, --trim and --steps: give one, or leave "
                                 "--learn out")  # fmt: skip
        if self.fewest != 1 and not self.trim:
            raise TokenizerError("--fewest is for --trim: leave it out")
        if self.steps and "-" in self.learn:
            raise TokenizerError(
                "--learn - is read once, and --steps reads its text several times: save it to a "
                "file and name that"
            )
        for name in () if self.steps else ("work", *(each.name for each in fields(Continued))):
            if _is_given(name):
                raise TokenizerError(f"--{name} is for --steps: leave it out")
        if self.trim and _is_given("by"):
            raise TokenizerError("--by makes rows of new tokens, and --trim has none: leave it out")
        if self.steps:
            # Sources that cannot be read are refused before a model is.
            Sources(self.learn, Fields()).survey()


def _is_given(name: str) -> bool:
    found = click.get_current_context().get_parameter_source(name)
    return found is ParameterSource.COMMANDLINE


@click.command()
@click.argument("model")
@click.argument("new", required=False)
@click.option("--out", "-o", required=True, type=Place(), help="folder of the model to write")
@click.option("--by", default="tokenadapt_own", show_default=True,
              help='how new rows are made: tokenadapt_own, "tokenadapt(encoder=FOLDER)", mean, '
              '"zett(path=FILE)" or random')  # fmt: skip
@click.option("--extend", type=COUNT, metavar="N",
              help="instead of NEW: the model's tokenizer and N tokens of --learn")  # fmt: skip
@click.option("--trim", is_flag=True,
              help="instead of NEW: what --learn uses of the model's tokenizer")  # fmt: skip
@click.option("--fewest", default=1, show_default=True, type=COUNT,
              help="of --trim: times that a kept token stands in the text")  # fmt: skip
@click.option("--learn", multiple=True, metavar="FILE",
              help="text of --extend, --trim and --steps; may be repeated")  # fmt: skip
@click.option("--text", multiple=True, metavar="FILE",
              help="text on which bits a byte are told; may be repeated")  # fmt: skip
@click.option("--specials", type=click.Choice(["model", "new"]), default="model", show_default=True,
              help="whose special tokens, end and beginning are taken")  # fmt: skip
@click.option("--multiple", default=128, show_default=True, type=COUNT,
              help="what the rows of the matrix are padded to a multiple of")  # fmt: skip
@click.option("--steps", type=COUNT, help="train so many steps on --learn afterwards")
@click.option("--train", type=click.Choice(["all", "embeddings"]), default=_HOW.train,
              show_default=True, help="weights that --steps change")  # fmt: skip
@click.option("--length", default=_HOW.length, show_default=True, type=COUNT,
              help="tokens of a row of --steps")  # fmt: skip
@click.option("--rows", default=_HOW.rows, show_default=True, type=COUNT,
              help="rows of a step")  # fmt: skip
@click.option("--lr", default=_HOW.lr, show_default=True, type=Real(0, min_open=True),
              help="rate of --steps at its highest")  # fmt: skip
@click.option("--seed", default=_HOW.seed, show_default=True, type=NATURAL,
              help="of what --steps draw")  # fmt: skip
@click.option("--work", type=Place(), help="folder of the run of --steps (default: OUT.run)")
@click.option("--dtype", help="bf16, fp16 or fp32 (default: that of the model's folder)")
@click.option("--device", help="where to run: cpu, cuda, cuda:1, mps (default: the best here)")
@click.option("--force", is_flag=True, help="replace a model that is no transplant of ours")
@click.option("--json", "as_json", is_flag=True, help="print one JSON object")
def transplant(
    model: str, new: str | None, out: Path, by: str, extend: int | None, trim: bool, fewest: int,
    learn: tuple[str, ...], text: tuple[str, ...], specials: str, multiple: int, steps: int | None,
    work: Path | None, dtype: str | None, device: str | None, force: bool, as_json: bool,
    **numbers: Any,
) -> int:  # fmt: skip
    """Give MODEL, a folder, a .gguf file, a hub name or `embedded`, the tokenizer NEW.

    Rows of tokens that both have are copied; the others are made --by a method. OUT is a folder
    that transformers and lengthwise load. `--extend` and `--trim` change the model's own tokenizer.
    """
    asked = _Asked(new, extend, trim, fewest, learn, steps)
    asked.check()
    how = Continued(steps=steps or 0, **numbers)
    method = _method(by)
    inputs = [model, new, *learn, *text]
    _check_out(out, inputs, force)
    place = out.resolve()  # It may be the working folder, which has no name of its own.
    work = work or place.with_name(f"{place.name}.run")
    if steps:
        _check_work(work, out, inputs)
    method.check()
    texts = _texts("--text", text)
    with CartridgeBar() as bar:
        told = _told(bar)
        opened, own = _open(model, dtype, device)
        tokenizer = _new_tokenizer(asked, own, told)
        found = _Report(model, by, asked)
        found.before = _loss(opened, own, texts, told)
        from lengthwise.tokenization.transplant.folder import save
        from lengthwise.tokenization.transplant.loss import opening
        from lengthwise.tokenization.transplant.surgery import transplant as run
        from lengthwise.training.continued_work import deciding

        more = {"--specials": specials, "--multiple": multiple}
        asks = deciding(opened, tokenizer, method, learn, how) | more if steps else {}
        made = run(opened, own, tokenizer, method, specials=specials, multiple=multiple, told=told)
        found.made = made
        start = made.moves.first(opening(own)) if texts else None
        found.after = _loss(made.model, made.tokenizer, texts, told, start)
        if not steps:
            save(place, made.model, made.tokenizer, found.origin())
        else:
            stopped = _train_on(found, own, place, work, asks, how, bar)
            if stopped is not None:
                return stopped
            trained, its = _open(str(place), None, device)
            found.trained = _loss(trained, its, texts, told, start)
    click.echo(json.dumps(found.json(out)) if as_json else found.text(out))
    return 0


def _method(text: str) -> Transplant:
    from lengthwise.recipes.parser import parse_one
    from lengthwise.tokenization.transplant.method import TRANSPLANTS

    return parse_one(text, TRANSPLANTS.usable())


def _check_out(out: Path, inputs: Seq[str | None], force: bool) -> None:
    """Raises LengthwiseError for a folder that must not be written."""
    from lengthwise.tokenization.transplant.folder import is_ours

    check_folder("--out", out, inputs)
    if not out.is_dir() or not any(out.iterdir()):
        return
    _refuse_within("--out", out, inputs)
    if is_ours(out):
        return
    if not (out / "config.json").is_file():
        raise TokenizerError(f"--out {out}: this folder holds something else than a model: name "
                             "another one")  # fmt: skip
    if not force:
        raise TokenizerError(
            f"--out {out}: a model that is no transplant of lengthwise lies there: name another "
            "folder, or add --force to replace it"
        )


def _check_work(work: Path, out: Path, inputs: Seq[str | None]) -> None:
    """Raises LengthwiseError for a work folder that is of something else, or lies amiss."""
    from lengthwise.training.continued_work import check_work

    check_folder("--work", work, inputs)
    _refuse_within("--work", work, inputs)
    here, there = work.resolve(), out.resolve()
    if here == there or here in there.parents or there in here.parents:
        raise TokenizerError(
            f"--work {work}: it goes at the end and --out {out} stays, so neither may lie in the "
            "other: name a folder beside it"
        )
    check_work(work)


def _refuse_within(option: str, folder: Path, inputs: Seq[str | None]) -> None:
    """Raises TokenizerError where something that is read lies in a folder that is replaced."""
    for each in inputs:
        place = Path(os.path.expanduser(each or "")).resolve()
        if each and place.exists() and folder.resolve() in place.parents:
            raise TokenizerError(
                f"{option} {folder}: {each} lies in it, which the same call reads, and would be "
                "lost: name another folder"
            )


def _texts(option: str, sources: tuple[str, ...]) -> list[str]:
    if not sources:
        return []
    texts = [each.text for each in given_documents(sources)]
    check_texts(f"the text of {option}", texts)
    return texts


def _open(
    name: str, dtype: str | None, device: str | None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    from lengthwise.models.load import load_pretrained

    folder = Path(os.path.expanduser(name))
    if dtype is None and (folder / "config.json").is_file():
        dtype = _own_dtype(folder / "config.json")
    model, tokenizer, _ = load_pretrained(None if name == EMBEDDED else name, dtype, device)
    return model, tokenizer


def _own_dtype(config: Path) -> str | None:
    """The dtype that a model's folder says; None where it says none that lengthwise has."""
    from lengthwise.models.load import DTYPES

    try:
        found = json.loads(config.read_text(encoding="utf-8"))
        said = str(found.get("dtype") or found.get("torch_dtype"))
    except (OSError, ValueError, AttributeError, RecursionError):
        return None
    return said if said in DTYPES else None


def _new_tokenizer(
    asked: _Asked, own: PreTrainedTokenizerBase, told: Callable[[str, float], None]
) -> PreTrainedTokenizerBase:
    from lengthwise.tokenization.transplant.extend import extended
    from lengthwise.tokenization.transplant.fast import fast_tokenizer
    from lengthwise.tokenization.transplant.trim import trimmed

    if asked.new is not None:
        return fast_tokenizer(asked.new)
    texts = _texts("--learn", asked.learn)
    if asked.trim:
        return trimmed(own, lambda: iter(texts), asked.fewest, told)
    return extended(own, lambda: iter(texts), asked.extend or 0, told)


def _loss(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: list[str],
    told: Callable[[str, float], None], start: int | None = None,
) -> Loss | None:  # fmt: skip
    from lengthwise.tokenization.transplant.loss import loss_a_byte

    return loss_a_byte(model, tokenizer, texts, told=told, start=start) if texts else None


def _train_on(
    found: _Report, own: PreTrainedTokenizerBase, place: Path, work: Path,
    asks: dict[str, Any], how: Continued, bar: CartridgeBar,
) -> int | None:  # fmt: skip
    """Trains, and puts the result in its place; a status where a signal came."""
    from lengthwise.tokenization.transplant.folder import place as put, save
    from lengthwise.tokenization.transplant.loss import text_end
    from lengthwise.training.continued import go_on
    from lengthwise.training.continued_work import START, Work

    made, origin, held = found.done(), found.origin(), Work(work, asks)
    known = made.moves.first(text_end(own), "eos_token")
    end = str(made.tokenizer.convert_ids_to_tokens(made.tokenizer.eos_token_id if known is None
                                                   else known))  # fmt: skip
    try:
        start = held.folder / START
        save(start, made.model, made.tokenizer, origin)
        outcome = go_on(start, found.asked.learn, held.folder, how, bar, bar, end)
    except LengthwiseError:
        if not held.begun:
            held.done()
        raise
    if outcome.signal is not None:
        said = f"interrupted after step {outcome.step} of {outcome.steps}; the same command goes on"
        click.echo(f"lengthwise: {said}", err=True)
        return 128 + outcome.signal
    put(place, lambda aside: shutil.copytree(held.folder / "run" / "model", aside), origin)
    held.done()
    return None


def _told(bar: CartridgeBar) -> Callable[[str, float], None]:
    """Progress as a bar of hundredths, a stage for each thing that is done."""
    doing = ""

    def told(what: str, share: float) -> None:
        nonlocal doing
        if what != doing:
            doing = what
            bar.stage(what, 100, "%")
        bar.reached(int(100 * share), 100, said="%")

    return told


class _Report:
    """What is told at the end."""

    def __init__(self, model: str, by: str, asked: _Asked) -> None:
        self.model, self.by, self.asked = model, by, asked
        self.made: Transplanted | None = None
        self.before: Loss | None = None
        self.after: Loss | None = None
        self.trained: Loss | None = None

    def origin(self) -> dict[str, Any]:
        """What OUT says of itself."""
        made = self.done()
        return {
            "model": self.model, "new": self.asked.new, "extend": self.asked.extend,
            "trim": self.asked.trim, "by": self.by, "steps": self.asked.steps,
            "tokens": made.tokens, "tokens_before": made.before, "rows": made.rows,
            "copied": made.copied, "made": made.made, "unspelled": made.unknown,
            "strange": made.strange, "settings_gone": made.gone, "settings_partly": made.partly,
        }  # fmt: skip

    def json(self, out: Path) -> dict[str, Any]:
        """One object."""
        losses = {"before": self.before, "after": self.after, "trained": self.trained}
        told = {
            name: {"bits_a_byte": each.bits, "tokens": each.tokens, "bytes": each.bytes,
                   "unknown": each.unknown}
            for name, each in losses.items() if each is not None
        }  # fmt: skip
        return {"out": str(out), **self.origin(), "losses": told}

    def text(self, out: Path) -> str:
        """Some lines."""
        made = self.done()
        fresh = f", {made.made:,} made by {self.by}" if made.made else ""
        lines = [
            f"{out}: {made.tokens:,} tokens ({made.before:,} before), {made.copied:,} rows copied"
            f"{fresh}"
        ]
        if made.unknown:
            lines.append(f"{made.unknown:,} tokens could not be spelled by the old tokenizer; "
                         "their rows are made without pieces")  # fmt: skip
        if made.strange:
            lines.append("special tokens that the model does not know, whose rows are the mean of "
                         f"all: {made.strange:,}")  # fmt: skip
        if made.partly:
            lines.append(f"settings that lost some of their tokens: {', '.join(made.partly)}")
        if made.gone:
            lines.append(f"settings whose token is gone, none now: {', '.join(made.gone)}")
        steps = f"after {self.asked.steps} steps"
        for name, each in (("before", self.before), ("after", self.after), (steps, self.trained)):
            if each is not None:
                lost = f", {each.unknown:,} of them unknown" if each.unknown else ""
                lines.append(
                    f"{name}: {each.bits:.4f} bits a byte, {each.bytes / each.tokens:.3f} bytes a "
                    f"token ({each.tokens:,} tokens of {each.bytes:,} bytes{lost})"
                )
        return "\n".join(lines)

    def done(self) -> Transplanted:
        """What was made."""
        assert self.made is not None
        return self.made


__all__ = ["transplant"]
