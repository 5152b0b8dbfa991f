"""`lengthwise bench`: suites of measurements on this machine."""

from __future__ import annotations

from pathlib import Path

import click

from lengthwise.cli.arguments import COUNT, SEED, Place, Real, Whole
from lengthwise.cli.compare import Bars
from lengthwise.cli.main import ModelChoice, model_options
from lengthwise.cli.shelf import shelf
from lengthwise.documents.prompt_files import read_prompts
from lengthwise.evaluation.compare.drafting import DEFAULT_RECIPES, bench as run_drafting
from lengthwise.evaluation.metrics.drafting_rows import DraftingRow
from lengthwise.evaluation.reports.drafting_table import show
from lengthwise.evaluation.tasks.work import CONTEXTS, KINDS, PROMPTS, check_kinds
from lengthwise.recipes import parse


@click.group()
def bench() -> None:
    """Measure in depth: `drafting` times guessing ahead on kinds of work, `shelf` compares every
    cache method at equal bytes."""


bench.add_command(shelf)


@bench.command()
@click.option("-r", "--recipe", "recipes", multiple=True,
              help="such as 'snapkv + lookup'; may be repeated (default: "
              f"{', '.join(DEFAULT_RECIPES)})")  # fmt: skip
@click.option("-k", "--kind", "kinds", multiple=True,
              help=f"of {', '.join(KINDS)}; may be repeated (default: all)")  # fmt: skip
@click.option("--context", show_default="both",
              type=click.Choice([*CONTEXTS, "both"]),
              help=", ".join(f"{name}: {n:,} tokens" for name, n in CONTEXTS.items()))  # fmt: skip
@click.option("--prompts", type=COUNT,
              help=f"of each kind and context, up to {PROMPTS} (default: 1), or of each kind of "
              "--prompt-file (default: all)")  # fmt: skip
@click.option("--prompt-file", type=Place(exists=True, dir_okay=False),
              help="prompts of your own in place of these kinds: JSON lines with 'turns' (as "
              "Spec-Bench's question.jsonl), 'messages' or 'prompt', and a 'category'")  # fmt: skip
@click.option("--new-tokens", default=128, show_default=True, type=Whole(2),
              help="most tokens of an answer")  # fmt: skip
@click.option("--rounds", default=3, show_default=True, type=COUNT,
              help="times each is run, in turn; medians are reported")  # fmt: skip
@click.option("--batch", default=1, show_default=True, type=COUNT,
              help="prompts decoded at once")  # fmt: skip
@click.option("--temperature", default=0.0, show_default=True, type=Real(0),
              help="0 takes the likeliest token, above it samples")  # fmt: skip
@click.option("--seed", default=0, show_default=True, type=SEED, help="of the samples")
@click.option("--accept-lengths", is_flag=True,
              help="also print how many tokens the rounds of each row brought")  # fmt: skip
@click.option(
    "--cold/--warm",
    default=True,
    show_default=True,
    help="whether drafters that learn know nothing at first, or the whole suite",
)
@click.option(
    "--baselines/--no-baselines",
    default=True,
    show_default=True,
    help="also run transformers' generate, plain and with its prompt lookup",
)
@click.option("--json", "as_json", is_flag=True, help="print one JSON line a row instead")
@model_options
def drafting(
    recipes: tuple[str, ...], kinds: tuple[str, ...], context: str | None, prompts: int | None,
    prompt_file: Path | None, new_tokens: int, rounds: int, batch: int, temperature: float,
    seed: int, accept_lengths: bool, cold: bool, baselines: bool, as_json: bool,
    choice: ModelChoice,
) -> int:  # fmt: skip
    """Six kinds of work, and copying, with and without guessing ahead: tokens a second and a round
    of every recipe, beside plain decoding and two baselines of transformers."""
    if prompt_file is not None and context is not None:
        raise click.UsageError("--context is of the built-in kinds; a --prompt-file has its own")
    if prompt_file is None and prompts is not None and prompts > PROMPTS:
        raise click.UsageError(f"--prompts {prompts}: there are {PROMPTS} of each kind")
    asked = read_prompts(prompt_file) if prompt_file is not None else []
    chosen = kinds if asked else check_kinds(kinds)
    wanted = recipes or DEFAULT_RECIPES
    for recipe in wanted:
        parse(recipe)
    contexts = (context,) if context in CONTEXTS else tuple(CONTEXTS)
    loaded = choice.open()
    with Bars(as_json) as bars:
        rows = run_drafting(
            loaded, wanted, chosen, contexts, asked=asked, prompts=prompts, new_tokens=new_tokens,
            rounds=rounds, batch=batch, temperature=temperature, seed=seed, warm=not cold,
            baselines=baselines, progress=bars,
            finished=_print_json if as_json else _print_progress,
        )  # fmt: skip
    if not as_json:
        show(rows, lengths=accept_lengths)
    if rows.interrupted:
        click.echo("lengthwise: interrupted; the finished rows are above", err=True)
        return 130
    return 0


def _print_json(row: DraftingRow) -> None:
    click.echo(row.to_json())


def _print_progress(row: DraftingRow) -> None:
    if row.refused is not None:
        said = "refused"
    elif row.tokens_per_s is None:
        said = "one token"
    else:
        said = f"{row.tokens_per_s:.1f} tok/s"
    click.echo(f"{row.kind}, {row.context}, {row.recipe}: {said}", err=True)
