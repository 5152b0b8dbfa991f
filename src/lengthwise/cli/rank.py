"""`lengthwise rank`: candidates behind one prompt, ranked by the model in one pass."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lengthwise.cli.arguments import Place, check_text, check_texts
from lengthwise.cli.documents import given_document
from lengthwise.cli.main import ModelChoice, model_options
from lengthwise.cli.run import encode_prompt
from lengthwise.documents.item_files import read_items
from lengthwise.errors import LengthwiseError

if TYPE_CHECKING:
    from lengthwise.api.model import Model
    from lengthwise.api.prompts import Prompt
    from lengthwise.api.ranking import Ranked
    from lengthwise.documents.document import Document


@click.command()
@click.argument("candidates", nargs=-1, metavar="[CANDIDATE]...")
@click.option("-p", "--prompt", required=True, help="what the candidates stand behind")
@click.option("-d", "--document", "documents", multiple=True,
              help="a file or folder that stands before the prompt; may be repeated")  # fmt: skip
@click.option("--candidates", "file", type=Place(), metavar="FILE",
              help="more candidates, one a line, as text or as JSON objects")  # fmt: skip
@click.option("--field", default="text", show_default=True,
              help="of JSON lines, that holds the text")  # fmt: skip
@click.option("-r", "--recipe", default="full", show_default=True,
              help="under which the prompt is read; see `lengthwise methods`")  # fmt: skip
@click.option("--normalise", type=click.Choice(["sum", "mean"]), default="sum", show_default=True,
              help="rank by the log-probability of all tokens, or a token")  # fmt: skip
@click.option("--against", metavar="PROMPT",
              help="take off what a candidate has behind this prompt, such as 'Answer:' (pointwise "
              "mutual information)")  # fmt: skip
@click.option("--raw", is_flag=True, help="give the prompt as it is, without the chat template")
@click.option("--json", "as_json", is_flag=True, help="print one JSON object")
@model_options
def rank(
    candidates: tuple[str, ...], prompt: str, documents: tuple[str, ...], file: Path | None,
    field: str, recipe: str, normalise: str, against: str | None, raw: bool, as_json: bool,
    choice: ModelChoice,
) -> None:  # fmt: skip
    """Rank each CANDIDATE by the probability that the model gives it behind a prompt, best first.

    The prompt is read once, and all candidates go through the model together, as branches that do
    not see each other.
    """
    from lengthwise.api.text_models import require_writing
    from lengthwise.recipes import parse

    parsed = parse(recipe)
    require_writing(parsed)
    check_texts("the prompt", [prompt])
    check_texts("--against", [] if against is None else [against])
    texts = _candidates(candidates, file, field)
    if choice.is_remote:
        raise LengthwiseError(
            "rank asks for the probability of given tokens, which a model behind a server does not "
            "tell; give one that runs here"
        )
    document = given_document(documents, pipe=False)
    model = choice.open()
    asked = _prompt(model, prompt, document, raw)
    without = None if against is None else _prompt(model, against, None, raw)
    begin = time.perf_counter()
    found = model.rank(asked, texts, recipe, normalise=normalise, against=without)
    seconds = time.perf_counter() - begin
    if as_json:
        _print_json(model, str(parsed), len(model.encode(asked)), found, seconds)
        return
    for place, each in enumerate(found, 1):
        click.echo(
            f"{place:>3}  {each.score:>10.4f}  {each.mean:>9.4f} a token, {len(each.token_ids):>3} "
            f"tokens  {each.text}"
        )


def _candidates(given: tuple[str, ...], file: Path | None, field: str) -> list[str]:
    check_texts("a candidate", given)
    check_text("--field", field)
    texts = [*given, *([] if file is None else [each.text for each in read_items(file, field)])]
    if not texts:
        raise LengthwiseError(
            "there are no candidates; give one or more as arguments, or in a file by --candidates"
        )
    return texts


def _prompt(model: Model, text: str, document: Document | None, raw: bool) -> Prompt:
    """A raw text as it is, so that candidates are encoded with it; else the ids of a template."""
    if document is None and (raw or not getattr(model.tokenizer, "chat_template", None)):
        return text
    return encode_prompt(model, text, None if document is None else document.text, None, raw)


def _print_json(
    model: Model, recipe: str, prompt_tokens: int, found: list[Ranked], seconds: float
) -> None:
    """One object, whose fields are named as those of `run --json`."""
    click.echo(json.dumps({
        "recipe": recipe, "model": model.name, "dtype": model.adapted.dtype_text,
        "device": str(model.adapted.device), "prompt_tokens": prompt_tokens, "seconds": seconds,
        "candidates": [
            {"index": each.index, "text": each.text, "token_ids": each.token_ids,
             "score": each.score, "logprob": each.total, "mean_logprob": each.mean,
             "logprobs": each.logprobs, "greedy": each.greedy,
             **({} if each.without is None else {"logprob_without": each.without})}
            for each in found
        ],
    }, ensure_ascii=False))  # fmt: skip


__all__ = ["rank"]
