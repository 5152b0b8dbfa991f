"""`lengthwise write`: a long text, planned and then written part by part."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lengthwise._utils.outputs import Output, check_outputs
from lengthwise.cli.arguments import (
    SEED,
    WHOLE,
    Place,
    Real,
    Whole,
    check_text,
    force_option,
)
from lengthwise.cli.main import ModelChoice, model_options
from lengthwise.errors import LengthwiseError

if TYPE_CHECKING:
    from lengthwise.api.writing import LongText

PART_WORDS = 400


@click.command()
@click.argument("instruction", required=False)
@click.option("-w", "--words", type=Whole(1, 50_000), required=True, help="of the whole text")
@click.option("-o", "--out", type=Place(), metavar="FILE",
              help="write the text to a file; parts are kept beside it as they are done, and the "
              "same command goes on behind them")  # fmt: skip
@force_option("long text")
@click.option("-r", "--recipe", default="full", show_default=True,
              help="under which the model reads and writes; see `lengthwise methods`")  # fmt: skip
@click.option("--plan", "plan_file", type=Place(), metavar="FILE",
              help="a plan of your own: 'Part 1 - Main point: where to begin - Words: 400', a line "
              "a part (default: the model is asked)")  # fmt: skip
@click.option("--part-words", type=Whole(200, 1000),
              help="words of a part that the model is asked to plan "
              f"(default: {PART_WORDS})")  # fmt: skip
@click.option("--repeats", type=WHOLE, default=1, show_default=True,
              help="most times that one sentence may be said (0: any number)")  # fmt: skip
@click.option("--remembered", type=WHOLE,
              help="tokens of the text so far that a part is shown (default: all there is room "
              "for)")  # fmt: skip
@click.option("--temperature", default=1.0, show_default=True, type=Real(0),
              help="0 is greedy; small models go round in circles then")  # fmt: skip
@click.option("--top-p", default=1.0, type=Real(0, 1),
              help="sample among the likeliest that make up p")  # fmt: skip
@click.option("--repetition-penalty", default=None, type=Real(0, min_open=True),
              help="1 is none (default: 1.1 of a model that runs here, none of one behind a "
              "server; small ones go round in circles)")  # fmt: skip
@click.option("--seed", default=0, show_default=True, type=SEED, help="of the samples")
@click.option("--json", "as_json", is_flag=True, help="print one JSON object instead of streaming")
@model_options
def write(
    instruction: str | None, words: int, out: Path | None, force: bool, recipe: str,
    plan_file: Path | None, part_words: int | None, repeats: int, remembered: int | None,
    temperature: float, top_p: float, repetition_penalty: float | None, seed: int, as_json: bool,
    choice: ModelChoice,
) -> None:  # fmt: skip
    """Writes a long text for INSTRUCTION (default: standard input): asks for a plan, and then for
    part after part (AgentWrite)."""
    from lengthwise.api import writing
    from lengthwise.api.text_models import require_writing
    from lengthwise.engine.sampling import Sampling
    from lengthwise.recipes import parse
    from lengthwise.recipes.files import files_of
    from lengthwise.workflows.agentwrite import AgentWrite
    from lengthwise.workflows.writing_journal import LONG_TEXT, Journal, journal_of

    parsed = parse(recipe)
    require_writing(parsed)
    asked = _instruction(instruction)
    plan = None if plan_file is None else _plan(plan_file)
    if plan is not None and part_words is not None:
        raise LengthwiseError(
            "--part-words is of a plan that the model is asked for, and --plan gives one: leave "
            "one of them out"
        )
    part_words = part_words or PART_WORDS
    how = AgentWrite(part_words, repeats=repeats, remembered=remembered)
    penalty = writing.penalty_of(repetition_penalty, not choice.is_remote)
    sampling = Sampling(temperature, 0, top_p, 0.0, penalty, seed)
    job = writing.job_of(asked, words, parsed, plan, how, sampling)
    if plan is not None:
        writing.given_plan(plan, words)
    read = [choice.model, plan_file, *files_of([recipe])]
    check_outputs([Output("--out", out, LONG_TEXT)], read, force)
    if out is not None and not force:
        Journal.require_ours(out, job)
    model = choice.open_text(recipe)
    if out is not None and not journal_of(out).exists():
        click.echo(f"parts are kept in {journal_of(out)} as they are done", err=True)
    options: dict[str, Any] = {
        "recipe": parsed, "plan": plan, "out": out, "force": force, "part_words": part_words,
        "repeats": repeats, "remembered": remembered, "temperature": temperature, "top_p": top_p,
        "repetition_penalty": penalty, "seed": seed,
    }  # fmt: skip
    found = writing.write(
        model, asked, words, stream=None if as_json else _say,
        note=lambda said: click.echo(f"\nnote: {said}", err=True), **options,
    )  # fmt: skip
    _show(found, out, as_json)


def _say(piece: str) -> None:
    click.echo(piece, nl=False)


def _instruction(given: str | None) -> str:
    from lengthwise.documents.encodings import decode

    text = given if given is not None else decode(sys.stdin.buffer.read(), "standard input")
    check_text("the instruction", text)
    if not text.strip():
        raise LengthwiseError(
            "the instruction is empty; give it as an argument or on standard input"
        )
    return text


def _plan(path: Path) -> str:
    from lengthwise.documents.files import read_document

    return read_document(path).text


def _show(found: LongText, out: Path | None, as_json: bool) -> None:
    from lengthwise.evaluation.scorers.length_score import length_score

    score = length_score(found.asked, found.words)
    if as_json:
        parts = [{**asdict(part), "words": part.words} for part in found.parts]
        plan = [asdict(part) for part in found.plan]
        click.echo(json.dumps({
            "asked": found.asked, "words": found.words, "length_score": score, "text": found.text,
            "plan": plan, "parts": parts, "before": found.before, "notes": found.notes,
            "out": None if out is None else str(out),
        }, ensure_ascii=False))  # fmt: skip
        return
    click.echo()
    click.echo(
        f"{found.words:,} words of {found.asked:,} in {len(found.parts)} parts, length score "
        f"{score:.1f}" + ("" if out is None else f"; {out}"),
        err=True,
    )
