"""The laws every method is held to, ours and a third party's, each as one function.

A law raises ConformanceError with one line that says which method broke it, where and by how much.
What a method declares not to hold (chunking_exact, decoding_exact, no identity) is not asked of it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence as Seq
from functools import lru_cache
from typing import NoReturn

import torch
from torch import Tensor

from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.plan import FULL, Plan
from lengthwise.errors import RecipeError, Refused
from lengthwise.methods.base import Budget, Method
from lengthwise.methods.options import Option, options
from lengthwise.models.adapt import adapt
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.recipes import Recipe, parse, resolve
from lengthwise.recipes.piece import Piece
from lengthwise.recipes.registry import methods
from lengthwise.recipes.rules import ENCODES
from lengthwise.testing.drive import RAGGED, WHOLE, feed, generate, read, together
from lengthwise.testing.tiny import tiny_model, tokens

FAMILIES = ("llama", "qwen3", "gemma3_text", "phi", "deepseek_v3", "gpt_oss")
COUNT, STEPS, CHUNK = 88, 8, 7
LONG = 1024
TOLERANCE = 1e-4
SHIFT, SHIFT_TOLERANCE = 777, 1e-3
BYTES_TOLERANCE = 0.03
TRAINED = 64


class ConformanceError(AssertionError):
    """A method breaks a law."""


Law = Callable[[type[Method], AdaptedModel], None]


@lru_cache(maxsize=16)
def law_model(family: str) -> AdaptedModel:
    """A tiny model with sharp attention, trained for fewer tokens than the laws feed it.

    Args:
        family: as transformers names it, such as "llama"; see `FAMILIES`.
    """
    model = tiny_model(family, initializer_range=0.15, max_position_embeddings=TRAINED)
    return adapt(model)


def difference(ours: Tensor, theirs: Tensor) -> float:
    """Largest difference of logits, as a share of their spread where that is above 1."""
    return float((ours - theirs).abs().max() / theirs.std().clamp_min(1.0))


@lru_cache(maxsize=16)
def _full(model: AdaptedModel) -> Tensor:
    """Logits of full attention over the text that identities are tried on."""
    return together(model, FULL, [tokens(COUNT)], STEPS)[0]


def check_identity(cls: type[Method], model: AdaptedModel) -> None:
    """Law 1: at its identity setting a method equals full attention.

    Args:
        cls: the method, at `cls.identity`; one without an identity is not asked.
        model: what it runs on.

    Raises:
        ConformanceError: where logits differ.
    """
    method = cls.identity(COUNT)
    if method is None:
        return
    plan = resolve((method,), model)
    for chunk in (WHOLE, CHUNK):
        ours = together(model, plan, [tokens(COUNT)], STEPS, chunk)[0]
        _same(cls, model, f"{method} is not full attention", ours, _full(model))


@lru_cache(maxsize=16)
def _full_bytes(model: AdaptedModel) -> int:
    """Bytes that full attention holds of the longest text that methods are tried on."""
    return _held(None, model, LONG)


def check_bytes(cls: type[Method], model: AdaptedModel) -> None:
    """Law 2: what is held is what was asked for, and compressing means fewer bytes.

    Args:
        cls: the method, at `cls.example` and at budgets of every unit.
        model: what it runs on.

    Raises:
        ConformanceError: where bytes are off by more than BYTES_TOLERANCE, or none are saved.
    """
    example = cls.example()
    kept = {length: _held(example, model, length) for length in (LONG // 2, LONG)}
    full = _full_bytes(model)
    hooks = Piece.of(example, model).hooks
    if hooks & (ENCODES | {"start_retention", "head_table"}) and not kept[LONG] < full:
        fail(cls, model, f"{example} holds {kept[LONG]:,} bytes where full holds {full:,}")
    if Piece.of(example, model).bounded:
        _near(cls, model, f"bytes of {example} at twice the length", kept[LONG], kept[LONG // 2])
    budgets = [each.name for each in options(cls) if each.type is Budget]
    if "start_retention" not in hooks or not budgets or any(x.window for x in model.layers):
        return
    plain = model.bytes_per_token * LONG
    for budget, asked in (
        (Budget(LONG // 4), plain // 4),
        (Budget(25, "%"), plain // 4),
        (Budget(plain // 3, "B"), plain // 3),
    ):
        method = dataclasses.replace(example, **{budgets[0]: budget})
        _near(cls, model, f"bytes of {method}", _held(method, model, LONG), asked)


def check_drafting_equals_plain(cls: type[Method], model: AdaptedModel) -> None:
    """Law 3: any guesses at all leave greedy text as it is.

    Args:
        cls: the method, at `cls.example`.
        model: what it runs on.

    Raises:
        ConformanceError: where a token, or what is kept, differs.
    """
    check_drafting((cls.example(),), model)


def check_drafting(
    methods_: Seq[Method], model: AdaptedModel, seeds: int = 3, count: int = 3 * STEPS
) -> None:
    """Law 3 for methods that run together: `count` tokens, with guesses of as many seeds."""
    plan = resolve(methods_, model)
    if not all(method.by_path for method in methods_):
        return
    prompt = tokens(COUNT - STEPS)
    alone = dataclasses.replace(plan, drafters=())
    plain, expected = generate(model, alone, prompt, count)
    for seed in range(seeds):
        found, sequence = generate(model, plan, prompt, count, plain, seed)
        if found != plain:
            at = next(i for i, (a, b) in enumerate(zip(plain, found, strict=False)) if a != b)
            fail(plan.text, model, f"with drafts differs from itself at token {at}")
    if len(sequence) == len(expected) and all(method.shift_exact for method in methods_):
        ours, theirs = (feed([(each, [5])])[0] for each in (sequence, expected))
        _same(plan.text, model, "what is kept after drafts", ours, theirs)


def check_positions(cls: type[Method], model: AdaptedModel) -> None:
    """Law 4: only distances count; chunks and single tokens give what one pass gives.

    Args:
        cls: the method, at `cls.example`; what it declares not to hold is not asked.
        model: what it runs on.

    Raises:
        ConformanceError: where logits differ.
    """
    method = cls.example()
    plan, text = resolve((method,), model), tokens(COUNT)
    whole = together(model, plan, [text], STEPS)[0]
    # Up to the end of the prompt nothing is rounded, or bounded by rotated channels.
    upto = COUNT if cls.shift_exact else COUNT - STEPS
    if model.rope is not None:
        moved = together(model, plan, [text], STEPS, offset=SHIFT)[0]
        _same(cls, model, f"{method} with all positions moved", moved[:upto], whole[:upto],
              SHIFT_TOLERANCE)  # fmt: skip
    if cls.chunking_exact:
        found = together(model, plan, [text], STEPS, RAGGED)[0]
        _same(cls, model, f"{method} read in chunks of {RAGGED}", found[:upto], whole[:upto])
    if cls.decoding_exact:
        keeping = cls.identity(COUNT) if plan.retention is not None else None
        plan = resolve((keeping or method,), model)
        error = decoding_difference(model, plan, text)
        if not error <= TOLERANCE:
            fail(cls, model, f"{method} decoding differs from prefill by {error:.2g}")


def decoding_difference(model: AdaptedModel, plan: Plan, text: Seq[int]) -> float:
    """Difference of single tokens to one pass, before anything is dropped or encoded."""
    one = Sequence(model, plan)
    whole = read(one, text)
    stepped = Sequence(model, plan)
    half = len(text) - 3 * STEPS
    first = read(stepped, text[:half])
    if plan.retention is None and plan.codec is None:
        stepped.end_prefill()
    return difference(torch.cat([first, read(stepped, text[half:], 1)]), whole)


def check_batch(cls: type[Method], model: AdaptedModel) -> None:
    """Law 5: rows of a batch are what they are alone.

    Args:
        cls: the method, at `cls.example`.
        model: what it runs on.

    Raises:
        ConformanceError: where the logits of a row differ.
    """
    method = cls.example()
    plan = resolve((method,), model)
    texts = [tokens(COUNT, 1), tokens(COUNT // 2, 2), tokens(COUNT - 19, 3)]
    rows = together(model, plan, texts, STEPS, 3 * CHUNK)
    for row, text in zip(rows, texts, strict=True):
        alone = together(model, plan, [text], STEPS, 3 * CHUNK)[0]
        _same(cls, model, f"a row of {method} in a batch", row, alone)


def check_fork(cls: type[Method], model: AdaptedModel) -> None:
    """A fork goes on as the original would, and neither touches the other.

    Args:
        cls: the method, at `cls.example`.
        model: what it runs on.

    Raises:
        ConformanceError: where logits differ.
    """
    method = cls.example()
    text = tokens(COUNT)
    sequence = Sequence(model, resolve((method,), model))
    half = COUNT - 3 * STEPS
    read(sequence, text[:half], CHUNK)
    sequence.end_prefill()
    fork, rest = sequence.fork(), text[half:]
    read(fork, rest[::-1], 1)
    fork = sequence.fork()
    found = read(fork, rest, 1)
    _same(cls, model, f"a fork of {method}", read(sequence, rest, 1), found)


def check_refusals(cls: type[Method], model: AdaptedModel) -> None:
    """Law 6: bad options and impossible recipes are refused; recipes print what they are.

    Args:
        cls: the method, and all its options.
        model: what it runs on.

    Raises:
        ConformanceError: where something bad is taken, an error does not name the method, or a
            recipe reads back as another one.
    """
    for each in options(cls):
        for bad in _outside(each):
            try:
                cls(**{each.name: bad})
            except RecipeError as error:
                if cls.name not in str(error):
                    fail(cls, model, f"the error of {each.name}={bad} does not name the method")
                continue
            fail(cls, model, f"takes {each.name}={bad}, which it says is not allowed")
    if cls.best_known and methods().get(cls.name) is cls:
        best = parse(cls.best_known).methods
        if not any(isinstance(method, cls) for method in best):
            fail(cls, model, f"its best known setting {cls.best_known} is not of it")
    check_prompts(cls, model)
    method = cls.example()
    try:
        resolve((method, method), model)
        fail(cls, model, "may be given twice")
    except Refused:
        pass
    if methods().get(cls.name) is cls:
        recipe = Recipe((method,))
        if parse(str(recipe)) != recipe:
            fail(cls, model, f"{recipe} reads back as {parse(str(recipe))}")


def check_prompts(cls: type[Method], model: AdaptedModel) -> None:
    """Law 6: a budget of nearly nothing is refused before anything is read, or not at all."""
    budgets = [each.name for each in options(cls) if each.type is Budget]
    if "start_retention" not in Piece.of(cls.example(), model).hooks:
        return
    for name in budgets:
        for budget in (Budget(1), Budget(4), Budget(1, "B"), Budget(3, "KB"), Budget(0.1, "%")):
            method = dataclasses.replace(cls.example(), **{name: budget})
            try:
                plan = resolve((method,), model)
                plan.check_prompt(COUNT)
            except Refused:
                continue
            try:
                generate(model, plan, tokens(COUNT), STEPS)
            except Refused as refusal:
                fail(cls, model, f"{method} is refused while it reads: {refusal}")


LAWS: tuple[Law, ...] = (
    check_identity, check_bytes, check_drafting_equals_plain, check_positions, check_batch,
    check_fork, check_refusals,
)  # fmt: skip


def _held(method: Method | None, model: AdaptedModel, length: int) -> int:
    sequence = Sequence(model, resolve((method,), model) if method else FULL)
    read(sequence, tokens(length), 256)
    sequence.end_prefill()
    if sequence.peak_bytes < sequence.nbytes():
        raise ConformanceError(f"{method}: the peak is below what is held")
    return sequence.nbytes()


def _outside(each: Option) -> list[object]:
    """Values just beyond what an option allows."""
    found: list[object] = []
    if each.choices is not None:
        found.append("no such word" if each.type is str else -12345)
    if each.low is not None:
        found.append(each.type(each.low - 1))
    if each.high is not None:
        found.append(each.type(each.high + 1))
    return found or [object()]


def _same(
    who: type[Method] | str, model: AdaptedModel, what: str, ours: Tensor, theirs: Tensor,
    tolerance: float = TOLERANCE,
) -> None:  # fmt: skip
    error = difference(ours, theirs)
    if not error <= tolerance:
        fail(who, model, f"{what}: logits differ by {error:.2g}, allowed is {tolerance:g}")


def _near(cls: type[Method], model: AdaptedModel, what: str, found: float, asked: float) -> None:
    if abs(found - asked) > BYTES_TOLERANCE * asked:
        fail(
            cls, model, f"{what}: {found:,.0f} held, {asked:,.0f} asked ({found / asked - 1:+.1%})"
        )


def fail(who: type[Method] | str, model: AdaptedModel, reason: str) -> NoReturn:
    """Raises ConformanceError for a method on a model."""
    name = who if isinstance(who, str) else who.name
    raise ConformanceError(f"{name} on {model.family}: {reason}")
