"""`lengthwise pac`: programs with holes, of which a share is right by guarantee."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

from lengthwise._utils.outputs import Output, check_outputs
from lengthwise.cli.arguments import (
    COUNT,
    Place,
    Real,
    Whole,
    check_text,
    check_texts,
    force_option,
)
from lengthwise.cli.bars import Bar
from lengthwise.cli.main import ModelChoice, model_options
from lengthwise.errors import LengthwiseError

if TYPE_CHECKING:
    from lengthwise.evaluation.pac.calibration import PacCalibration


@click.group()
def pac() -> None:
    """Programs with holes, of which a share is right by guarantee (PAC prediction sets)."""


@pac.command()
@click.argument("examples", type=Place())
@click.option("-o", "--out", required=True, type=Place(), help="the calibration, a JSON file")
@force_option("calibration")
@click.option("--epsilon", default=0.2, show_default=True, type=Real(0, 1),
              help="share of programs that may be wrong")  # fmt: skip
@click.option("--delta", default=0.1, show_default=True, type=Real(0, 1),
              help="probability that more are")  # fmt: skip
@click.option("--holes", default=1, show_default=True, type=Whole(1, 10),
              help="of a program, at most")  # fmt: skip
@click.option("--max-new-tokens", default=128, show_default=True, type=COUNT,
              help="of a program, at most")  # fmt: skip
@click.option("--stop", multiple=True, help="text that ends a program; may be repeated")
@click.option("-r", "--recipe", default="full", show_default=True,
              help="under which the model writes; see `lengthwise methods`")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="print the calibration as one JSON line")
@model_options
def calibrate(
    examples: Path, out: Path, force: bool, epsilon: float, delta: float, holes: int,
    max_new_tokens: int, stop: tuple[str, ...], recipe: str, as_json: bool, choice: ModelChoice,
) -> None:  # fmt: skip
    """Find on EXAMPLES how much of a model's programs is right, and keep that in a file.

    EXAMPLES is a file of JSON objects, one a line: `prompt`, `program` (the right one) and, where
    the prompt ends with the beginning of the program, that as `begin`.
    """
    from lengthwise.evaluation.pac.calibration import CALIBRATION, calibrate_pac
    from lengthwise.evaluation.pac.examples import read_examples
    from lengthwise.evaluation.pac.threshold import allowed_errors
    from lengthwise.recipes import parse
    from lengthwise.recipes.files import files_of

    parse(recipe)
    for each in stop:
        check_text("--stop", each)
    check_outputs(
        [Output("--out", out, CALIBRATION)], [examples, choice.model, *files_of([recipe])], force
    )
    given = read_examples(examples)
    allowed_errors(len(given), epsilon, delta)
    model = _local(choice).open()
    columns = (TextColumn("examples"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns) as bar:
        found = calibrate_pac(
            model, given, recipe, epsilon=epsilon, delta=delta, holes=holes,
            max_new_tokens=max_new_tokens, stop=stop, progress=bar.reached,
        )  # fmt: skip
    found.save(out)
    if as_json:
        click.echo(json.dumps(_row(found), ensure_ascii=False))
        return
    click.echo(_said(found))


@pac.command()
@click.argument("prompt")
@click.option("--calibration", "file", required=True, type=Place(),
              help="as `pac calibrate` wrote it, of this model")  # fmt: skip
@click.option("--begin", default=None,
              help="what of the program the prompt ends with (default: nothing)")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="print one JSON object instead")
@model_options
def predict(prompt: str, file: Path, begin: str | None, as_json: bool, choice: ModelChoice) -> None:
    """Write the program behind PROMPT, with ?? for what the calibration does not vouch for."""
    from lengthwise.evaluation.pac.calibration import open_calibration, predict_pac

    check_texts("the prompt", [prompt])
    check_texts("--begin", [begin] if begin else [])
    if begin is not None and not prompt.endswith(begin):
        raise LengthwiseError("--begin must be what the prompt ends with")
    calibration = open_calibration(file)
    found = predict_pac(_local(choice).open(), calibration, prompt, begin or "")
    if as_json:
        held = asdict(found) | {"epsilon": calibration.epsilon, "delta": calibration.delta}
        click.echo(json.dumps(held, ensure_ascii=False))
        return
    click.echo(found.text)
    click.echo(
        f"{found.kept} of {found.nodes} nodes are kept; with a confidence of "
        f"{1 - calibration.delta:g}, at least {1 - calibration.epsilon:.0%} of such programs can "
        "be completed to the right one",
        err=True,
    )


def _local(choice: ModelChoice) -> ModelChoice:
    if choice.is_remote:
        raise LengthwiseError(
            f"{choice.model} is behind a server, which does not tell how likely its tokens are; "
            "name a model that runs here"
        )
    return choice


def _row(found: PacCalibration) -> dict[str, object]:
    return asdict(found) | {"budget": None if found.budget == float("inf") else found.budget}


def _said(found: PacCalibration) -> str:
    if found.chosen < 0:
        return (
            f"of {found.examples} examples more than {found.allowed} are wrong at any threshold: "
            "nothing may be kept"
        )
    return (
        f"{found.errors} of {found.examples} examples are wrong, and {found.allowed} may be; "
        f"{found.kept:.0%} of the nodes are kept, within {found.budget:g} nats and "
        f"{found.holes} hole{'s' if found.holes > 1 else ''} a program"
    )


__all__ = ["pac"]
