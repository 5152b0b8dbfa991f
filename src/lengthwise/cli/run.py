"""`lengthwise run`: one prompt, one recipe, the answer as it comes."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

from lengthwise.api.prompts import Shield
from lengthwise.cli.arguments import COUNT, SEED, WHOLE, Place, Real, check_text
from lengthwise.cli.bars import Bar
from lengthwise.cli.documents import given_document, given_documents, refuse_name
from lengthwise.cli.main import ModelChoice, model_options
from lengthwise.cli.remote import ask_remote, refuse_local
from lengthwise.cli.sources import shown
from lengthwise.documents.encodings import decode
from lengthwise.errors import DocumentError, LengthwiseError
from lengthwise.tokenization.detokenise import UNFINISHED, whole_characters

if TYPE_CHECKING:
    from lengthwise.api.model import Generation, Model
    from lengthwise.documents.document import Document
    from lengthwise.recipes import Recipe


class _Asking(click.Command):
    """Says where a document is given, to those who write it after the prompt."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            if "unexpected extra argument" not in error.message:
                raise
            raise click.UsageError(
                f"{error.message.rstrip('.')}: the prompt is one argument, in quotes if it has "
                "spaces, and a document is given by -d FILE",
                ctx,
            ) from None


@click.command(cls=_Asking)
@click.argument("prompt", required=False)
@click.option("-q", "--question", help="another way to give the prompt")
@click.option("-r", "--recipe", default="full", show_default=True, help="see `lengthwise methods`")
@click.option("--session", type=Place(exists=True, dir_okay=False),
              help="what `lengthwise read` saved: ask about that, read no document")  # fmt: skip
@click.option("-d", "--document", "documents", multiple=True,
              help="a file or folder that the prompt asks about (text, code, markdown, PDF, HTML, "
              ".docx; - is standard input); may be repeated, read in that order, or apart where "
              "the recipe has ape")  # fmt: skip
@click.option("-n", "--length", type=COUNT,
              help="tokens of the document to use, from its start (default: all)")  # fmt: skip
@click.option("--max-new-tokens", default=256, show_default=True, type=COUNT,
              help="most tokens of the answer")  # fmt: skip
@click.option("--temperature", default=0.0, show_default=True, type=Real(0), help="0 is greedy")
@click.option("--top-k", default=0, type=WHOLE, help="sample among the k likeliest (0: all)")
@click.option("--top-p", default=1.0, type=Real(0, 1),
              help="sample among the likeliest that make up p")  # fmt: skip
@click.option("--min-p", default=0.0, type=Real(0, 1),
              help="leave out tokens below this share of the likeliest")  # fmt: skip
@click.option("--repetition-penalty", default=1.0, type=Real(0, min_open=True), help="1 is none")
@click.option("--seed", default=0, show_default=True, type=SEED, help="of the samples")
@click.option("--stop", multiple=True, help="a text that ends the answer; may be repeated")
@click.option("--sources", is_flag=True,
              help="also print what was read of the document, and where it stands")  # fmt: skip
@click.option("--raw", is_flag=True, help="give the prompt as it is, without the chat template")
@click.option("--json", "as_json", is_flag=True, help="print one JSON object instead of streaming")
@model_options
def run(
    prompt: str | None, question: str | None, recipe: str, session: Path | None,
    documents: tuple[str, ...], length: int | None, max_new_tokens: int,
    temperature: float, top_k: int, top_p: float, min_p: float, repetition_penalty: float,
    seed: int, stop: tuple[str, ...], sources: bool, raw: bool, as_json: bool,
    choice: ModelChoice,
) -> None:  # fmt: skip
    """Answer PROMPT (default: standard input) under a recipe.

    What is piped in beside a PROMPT is the document, `cat report.txt | lengthwise run "Who signed
    it?"`, unless -d names one: then it is left alone, and `-d -` reads it too.
    """
    from lengthwise.engine.sampling import Sampling
    from lengthwise.recipes import parse

    parsed = parse(recipe)
    sampling: dict[str, Any] = {
        "temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p,
        "repetition_penalty": repetition_penalty, "seed": seed,
    }  # fmt: skip
    Sampling(**sampling)
    for each in stop:
        check_text("a stop text", each)
    if prompt is not None and question is not None:
        raise LengthwiseError("the prompt is given twice; give it as an argument or by -q")
    prompt = prompt if question is None else question
    if sources and parsed.prompting is None:
        raise LengthwiseError(
            "--sources are of a recipe that chooses what is read, such as bm25(budget=2048); "
            "without one all of the document is read"
        )
    options: dict[str, Any] = {"max_new_tokens": max_new_tokens, "stop": stop, **sampling}
    if (far := choice.remote()) is not None:
        local = {"--session": session, "--length": length, "--raw": raw, "ape": parsed.reads_apart}
        refuse_local(far, local)
        ask_remote(far, parsed, *_given(prompt, documents, None), options, sources, as_json)
        return
    if session is not None:
        _ask(session, prompt, (documents, length, raw), as_json, choice, options)
        return
    if parsed.reads_apart:
        _ask_apart(parsed, prompt, documents, (length, raw), as_json, choice, options)
        return
    text, document = _given(prompt, documents, length)
    if parsed.prompting is not None:
        _answer(parsed, text, document, (length, raw), sources, as_json, choice, options)
        return
    loaded = choice.open()
    ids = encode_prompt(loaded, text, None if document is None else document.text, length, raw)
    _tell_length(loaded, len(ids))
    # Several texts at once are nothing to stream: none is settled before the end.
    pieces = None if as_json or loaded.plan(recipe).mode is not None else Pieces()
    with Reading(len(ids)) as bar:
        found = loaded.generate(
            ids, recipe, progress=bar.advance,
            stream=None if pieces is None else bar.before(pieces), **options,
        )  # fmt: skip
    _show(loaded, str(parsed), found, pieces, as_json)


def _ask(
    session: Path, prompt: str | None, of_documents: tuple[Any, ...], as_json: bool,
    choice: ModelChoice, options: dict[str, Any],
) -> None:  # fmt: skip
    """Asks about what was read into a file."""
    from lengthwise.api.session_file import open_session

    if any(of_documents):
        raise LengthwiseError(
            "--session has its document, and how it was read; leave out -d, --length and --raw"
        )
    text, _ = _given(prompt, (), None, pipe=False)
    model = choice.open()
    context = click.get_current_context()
    named = context.get_parameter_source("recipe") is not ParameterSource.DEFAULT
    opened = open_session(session, model, context.params["recipe"] if named else None)
    pieces = None if as_json or model.plan(opened.parsed).mode is not None else Pieces()
    found = opened.ask(text, stream=pieces, **options)
    _show(model, opened.recipe, found, pieces, as_json)


def _ask_apart(
    recipe: Recipe, prompt: str | None, documents: tuple[str, ...], of_one: tuple[Any, ...],
    as_json: bool, choice: ModelChoice, options: dict[str, Any],
) -> None:  # fmt: skip
    """Asks about documents that are set apart, each file one of them."""
    if any(of_one):
        raise LengthwiseError(
            f"{recipe} sets documents apart, whole and within a message; leave out --length and "
            "--raw"
        )
    text, _ = _given(prompt, (), None, pipe=False)
    given = given_documents(documents)
    model = choice.open()
    pieces = None if as_json or model.plan(recipe).mode is not None else Pieces()
    begin = time.perf_counter()
    with Reading(sum(len(model.encode(each)) for each in given)) as bar:
        session = model.read_apart(given, recipe, progress=bar.advance)
    seconds = time.perf_counter() - begin
    found = session.ask(text, stream=pieces, **options)
    # All of it was read for this answer.
    found.metrics.ttft_s += seconds
    found.metrics.reused_tokens = 0
    _show(model, str(recipe), found, pieces, as_json)


def _answer(
    recipe: Recipe, question: str, document: Document | None, of_whole: tuple[Any, ...],
    sources: bool, as_json: bool, choice: ModelChoice, options: dict[str, Any],
) -> None:  # fmt: skip
    """Asks about what a recipe chooses of a document."""
    from lengthwise.api.answer import answer

    method = recipe.prompting
    assert method is not None
    if document is None:
        raise LengthwiseError(
            f"{method.name} chooses what is read of a document, and none is given: name one by "
            "-d FILE, or pipe it in beside the prompt"
        )
    if any(of_whole):
        raise LengthwiseError(
            f"{method.name} chooses what is read of a whole document; leave out --length and --raw"
        )
    model = choice.open()
    streams = not as_json and model.plan(recipe.after_prompting).mode is None
    pieces = Pieces() if streams else None
    found = answer(model, document, question, recipe, stream=pieces, **options)
    _show(model, str(recipe), found, pieces, as_json)
    if sources and not as_json:
        for block in shown(found.sources):
            click.echo(f"\n{block}")


def _show(
    model: Model, recipe: str, found: Generation, pieces: Pieces | None, as_json: bool
) -> None:
    """What is left to print of an answer."""
    whole = whole_characters(model.tokenizer, found.token_ids, found.text)
    if as_json:
        _print_json(model, recipe, found, whole)
        return
    if pieces is not None:
        pieces.end(whole)
    _print(model, found)


def _given(
    prompt: str | None, documents: tuple[str, ...], length: int | None, pipe: bool = True
) -> tuple[str, Document | None]:
    """The prompt, and the document it asks about where there is one. pipe: whether
    what is piped in beside a prompt is one."""
    if prompt is None and "-" in documents:
        raise LengthwiseError(
            "standard input cannot be both the document and the prompt; give the prompt as an "
            "argument"
        )
    text = prompt if prompt is not None else _piped_prompt()
    check_text("the prompt", text)
    if not text.strip():
        raise LengthwiseError("the prompt is empty; give it as an argument or on standard input")
    if prompt is not None:
        refuse_name(prompt)
    # Without a prompt beside it, standard input was the prompt.
    document = given_document(documents, pipe=pipe and prompt is not None, dash="-d -")
    if length is not None and document is None:
        raise LengthwiseError(
            "--length (-n) is of a document, and none is given; how long the answer may get is "
            "--max-new-tokens"
        )
    return text, document


def _piped_prompt() -> str:
    try:
        return decode(sys.stdin.buffer.read(), "standard input")
    except DocumentError as error:
        raise DocumentError(f"{error} (beside a PROMPT it would be the document)") from error


class Reading(Bar):
    """A bar while a prompt of so many tokens is read."""

    def __init__(self, tokens: int) -> None:
        super().__init__(
            TextColumn("reading"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        )
        self.stage("reading", tokens, "tokens")
        self._left = tokens

    def advance(self, done: int, tokens: int = 0) -> None:
        """So many tokens more are read; with the last of them the bar goes."""
        super().advance(done)
        self._left -= done
        if self._left <= 0:
            self.stop()

    def before(self, sink: Callable[[str], None]) -> Callable[[str], None]:
        """The sink of an answer, for which the bar makes room."""

        def shown(piece: str) -> None:
            self.stop()
            sink(piece)

        return shown


def _tell_length(model: Model, tokens: int) -> None:
    """Says on standard error how far a prompt reaches beyond what the model was trained to."""
    if tokens > model.trained_length:
        click.echo(
            f"{tokens:,} tokens to read, {tokens / model.trained_length:.1f} times the "
            f"{model.trained_length:,} that {model.name} was trained to (--length reads less of a "
            "document)",
            err=True,
        )


def encode_prompt(
    model: Model, text: str, document: str | None, length: int | None, raw: bool
) -> list[int]:
    """Ids of the prompt, about all of a document or its first `length` tokens. Special tokens
    written out in a document, or in a message, are text: only a raw prompt may have its own."""
    templated = not raw and bool(getattr(model.tokenizer, "chat_template", None))
    if document is not None and length is not None:
        return _encode_start(model, text, document, length, templated)
    whole = text if document is None else f"{document}\n\n{text}"
    if templated:
        return model.encode([{"role": "user", "content": whole}])
    if document is None:
        return model.encode(text)
    shield = Shield(model._tokenizer())
    return shield.encode(f"{shield.text(document)}\n\n{text}", add_special_tokens=True)


def _encode_start(
    model: Model, text: str, document: str, length: int, templated: bool
) -> list[int]:
    """Ids of a prompt about the first `length` tokens of a document, as `compare` makes them."""
    from lengthwise.api.document_prompt import build_prompt

    ids = model.encode(document, special="text")
    if length > len(ids):
        raise DocumentError(
            f"--length {length:,} is more than the {len(ids):,} tokens of the document; give less, "
            "or leave it out"
        )
    click.echo(f"the first {length:,} of {len(ids):,} tokens of the document are read", err=True)
    if templated:
        found = build_prompt(model, ids[:length], [text])
        return [*found.prefix, *found.suffixes[0]]
    shield = Shield(model._tokenizer())
    return [*ids[:length], *shield.encode(shield.text(f"\n\n{text}"))]


class Pieces:
    """Prints an answer as it comes, but for the beginning of a character that may never be said
    whole."""

    def __init__(self) -> None:
        self._printed, self._held = 0, ""

    def __call__(self, piece: str) -> None:
        text = self._held + piece
        ready = text.rstrip(UNFINISHED)
        self._held = text[len(ready) :]
        self._echo(ready)

    def end(self, whole: str) -> None:
        """Prints what is still missing of the whole answer."""
        self._echo(whole[self._printed :])

    def _echo(self, text: str) -> None:
        self._printed += len(text)
        if text:
            click.echo(text, nl=False)


def _print_json(model: Model, recipe: str, found: Generation, whole: str) -> None:
    """One object, whose fields are named as those of `compare --json`."""
    metrics, adapted = found.metrics, model.adapted
    drafts = [
        {"text": whole_characters(model.tokenizer, each.token_ids, each.text), "score": each.score}
        for each in found.drafts
    ]
    click.echo(json.dumps({
        "recipe": recipe, "model": model.name, "dtype": adapted.dtype_text,
        "device": str(adapted.device), "prompt_tokens": metrics.prompt_tokens,
        "reused_tokens": metrics.reused_tokens,
        "text": whole, "token_ids": found.token_ids, "ttft_s": metrics.ttft_s,
        "tokens_per_s": metrics.tokens_per_s, "kv_bytes": metrics.kv_bytes,
        "kv_peak_bytes": metrics.kv_peak_bytes, "kv_offloaded_bytes": metrics.kv_offloaded_bytes,
        "accepted_per_step": metrics.accepted_per_step, "finish_reason": metrics.finish_reason,
        "accepted": metrics.accepted, "draft_s": metrics.draft_s, "verify_s": metrics.verify_s,
        "decode_s": metrics.decode_s, "notes": metrics.notes,
        **({"alternatives": drafts} if drafts else {}),
        **({"tokens_read": metrics.tokens_read, "sources": [asdict(each) for each in found.sources]}
           if found.sources else {}),
    }, ensure_ascii=False))  # fmt: skip


def _print(model: Model, found: Generation) -> None:
    """What is left to say when the text has streamed: several texts, and the costs."""
    metrics = found.metrics
    for number, draft in enumerate(found.drafts, 1):
        text = whole_characters(model.tokenizer, draft.token_ids, draft.text)
        click.echo(f"[{number}] score {draft.score:.3f}\n{text}\n")
    if not found.drafts:
        click.echo()
    before = f" ({metrics.reused_tokens:,} of them before)" if metrics.reused_tokens else ""
    click.echo(
        f"{metrics.tokens_read or metrics.prompt_tokens:,} tokens read{before}, "
        f"first token after {metrics.ttft_s:.2f} s, "
        f"then {metrics.tokens_per_s:.1f} tokens/s ({metrics.accepted_per_step:.2f} a step), "
        f"{metrics.kv_bytes / 1e6:.1f} MB of KV (peak {metrics.kv_peak_bytes / 1e6:.1f}), "
        f"ended by {metrics.finish_reason}",
        err=True,
    )
    for note in filter(None, [metrics.drafting(), *metrics.notes]):
        click.echo(note, err=True)
