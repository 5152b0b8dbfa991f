"""`lengthwise cartridge`: trained keys and values in place of a corpus (Cartridges)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn

from lengthwise._utils.outputs import SESSION, Output, check_folder, check_outputs
from lengthwise.cli.arguments import COUNT, NATURAL, WHOLE, Place, Real, force_option
from lengthwise.cli.bars import Bar
from lengthwise.cli.documents import given_document
from lengthwise.cli.main import ModelChoice, model_options
from lengthwise.errors import DocumentError, LengthwiseError
from lengthwise.training.cartridge_config import Settings, Study
from lengthwise.training.progress import TrainingProgress

if TYPE_CHECKING:
    from lengthwise.training.cartridge import Outcome

_STUDY, _SETTINGS = Study(), Settings()
# Steps between two lines where there is no bar.
_LINES = 10


class CartridgeBar(Bar, TrainingProgress):
    """A bar a stage where standard error is a terminal, else a line now and then."""

    def __init__(self) -> None:
        super().__init__(
            TextColumn("{task.description}", markup=False), BarColumn(),
            TextColumn("{task.completed}/{task.total} {task.fields[said]}", markup=False),
            TimeRemainingColumn(), said="",
        )  # fmt: skip

    def step(self, step: int, steps: int, record: dict[str, Any]) -> None:
        said = f"loss {record['loss']:.4f}"
        if self.console.is_terminal:
            self.reached(step, steps, said=said)
        elif step == steps or step % _LINES == 0:
            self.note(f"step {step}/{steps}: {said}, {record['seconds']:.3g} s")


@click.group()
def cartridge() -> None:
    """Train keys and values that stand for a corpus, and put several together."""


@cartridge.command()
@click.argument("sources", nargs=-1, metavar="[CORPUS]...")
@click.option("--out", "-o", required=True, type=Place(), help="file of the session to write")
@force_option("session")
@click.option("--tokens", default=_SETTINGS.tokens, show_default=True, type=COUNT,
              help="keys and values a layer, at most")  # fmt: skip
@click.option("--pairs", default=_STUDY.pairs, show_default=True, type=COUNT,
              help="questions that the model asks itself")  # fmt: skip
@click.option("--steps", type=COUNT, help="updates (default: two passes over the pairs)")
@click.option("--batch", default=_SETTINGS.batch, show_default=True, type=COUNT,
              help="pairs of an update")  # fmt: skip
@click.option("--lr", default=_SETTINGS.lr, show_default=True, type=Real(0, min_open=True),
              help="Adam's rate")  # fmt: skip
@click.option("--held-out", default=_SETTINGS.held_out, show_default=True, type=WHOLE,
              help="pairs more, not trained on, whose loss is told")  # fmt: skip
@click.option("--min-chunk", default=_STUDY.min_chunk, show_default=True, type=COUNT,
              help="tokens of the corpus that a question is about, at least")  # fmt: skip
@click.option("--max-chunk", default=_STUDY.max_chunk, show_default=True, type=COUNT,
              help="the same, at most")  # fmt: skip
@click.option("--question-tokens", default=_STUDY.question_tokens, show_default=True, type=COUNT,
              help="tokens of a question, at most")  # fmt: skip
@click.option("--answer-tokens", default=_STUDY.answer_tokens, show_default=True, type=COUNT,
              help="tokens of an answer, at most")  # fmt: skip
@click.option("--seed", default=_STUDY.seed, show_default=True, type=NATURAL,
              help="of questions, and of their order")  # fmt: skip
@click.option("-r", "--recipe", default="full", show_default=True,
              help="asked under: full, drafters and codecs")  # fmt: skip
@click.option("--work", type=Place(), help="folder of pairs, log and checkpoint (default: OUT.run)")
@click.option("--study", type=Place(),
              help="folder of pairs alone, for several runs (default: in WORK)")  # fmt: skip
@model_options
def train(
    sources: tuple[str, ...], out: Path, force: bool, work: Path | None, study: Path | None,
    recipe: str, choice: ModelChoice, **numbers: Any,
) -> int:  # fmt: skip
    """Train a cartridge for CORPUS, files or folders (default: standard input).

    The model asks itself about the corpus and learns to answer without it. Stopped, even by
    kill -9, the same command goes on. Ask with `lengthwise run -q QUESTION --session OUT`.
    """
    from lengthwise.recipes import parse
    from lengthwise.recipes.files import files_of
    from lengthwise.training.cartridge import train as run_training

    parse(recipe)
    asked, settings = _asked(numbers)
    work = work or out.with_name(f"{out.name}.run")
    inputs = [*sources, choice.model, *files_of([recipe])]
    check_outputs([Output("--out", out, SESSION)], inputs, force)
    check_folder("--work", work, inputs)
    if study is not None:
        check_folder("--study", study, inputs, within=work)
    document = given_document(sources)
    if document is None:
        raise DocumentError("there is no corpus: name a file or a folder, or pipe one in")
    model = choice.open()
    with CartridgeBar() as bar:
        outcome = run_training(model, document.text, out, asked, settings, recipe=recipe,
                               work=work, pairs=study, progress=bar)  # fmt: skip
    if outcome.signal is not None:
        said = f"interrupted after step {outcome.step} of {outcome.steps}; the same command goes on"
        click.echo(f"lengthwise: {said}", err=True)
        return 128 + outcome.signal
    click.echo(_summary(outcome, out))
    return 0


def _asked(numbers: dict[str, Any]) -> tuple[Study, Settings]:
    """What options ask for, as the two things that are asked of training."""
    chunks = ("pairs", "min_chunk", "max_chunk", "question_tokens", "answer_tokens", "seed")
    rest = ("tokens", "steps", "batch", "lr", "held_out", "seed")
    return (Study(**{name: numbers[name] for name in chunks}),
            Settings(**{name: numbers[name] for name in rest}))  # fmt: skip


def _summary(outcome: Outcome, out: Path) -> str:
    session = outcome.session
    assert session is not None
    lines = [
        f"{out}: {len(session):,} trained tokens, {outcome.steps} steps, "
        f"{session.nbytes / 1e6:.1f} MB of KV"
    ]
    names = {"without": "without it", "cartridge": "with it", "corpus": "with the corpus"}
    told = [f"{outcome.losses[each]:.4f} {names[each]}" for each in names if each in outcome.losses]
    if told:
        lines.append(f"nats a token of held-out answers: {', '.join(told)}")
    return "\n".join(lines)


@cartridge.command()
@click.argument("cartridges", nargs=-1, required=True, metavar="CARTRIDGE...", type=Place())
@click.option("--out", "-o", required=True, type=Place(), help="file of the session to write")
@force_option("session")
@click.option("--rotate", is_flag=True,
              help="turn the keys of later ones behind the earlier ones (default: each keeps the "
              "positions it was trained at)")  # fmt: skip
@model_options
def compose(
    cartridges: tuple[Path, ...], out: Path, force: bool, rotate: bool, choice: ModelChoice
) -> None:
    """Put several CARTRIDGEs of one model together, without training."""
    from lengthwise.api.cartridge import compose as put_together
    from lengthwise.api.session_file import open_session

    check_outputs([Output("--out", out, SESSION)], [*cartridges, choice.model], force)
    for each in cartridges:
        if not each.is_file():
            raise LengthwiseError(f"{each}: there is no such file")
    model = choice.open()
    session = put_together([open_session(each, model) for each in cartridges], rotate)
    session.save(out)
    click.echo(f"{out}: {len(session):,} trained tokens of {len(cartridges)} cartridges")
