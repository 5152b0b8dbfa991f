"""From what a user asks of a model to a batch that the loop runs, and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence as Seq
from typing import Any, Unpack

from lengthwise import recipes
from lengthwise.api.batch import Asked, Batch, Row
from lengthwise.api.generation import NEW_TOKENS, BatchOptions, Generation, Options, generation_of
from lengthwise.api.held_model import HeldModel
from lengthwise.api.prompts import Prompt
from lengthwise.api.streams import Stream
from lengthwise.documents.document import Document
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.plan import Plan
from lengthwise.engine.sampling import Sampling
from lengthwise.errors import LengthwiseError
from lengthwise.recipes import RecipeLike

_SAMPLING = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")


def open_batch(
    model: HeldModel,
    prompts: Seq[Prompt],
    recipe: RecipeLike | Seq[RecipeLike],
    seed: int | Seq[int],
    sinks: Seq[Callable[[str], None]] | None,
    cancelled: Callable[[], bool] | None,
    held: Seq[Sequence] | None = None,
    **options: Unpack[BatchOptions],
) -> tuple[Batch, list[Row]]:
    """A batch that is ready to be read, and its rows; raises before anything runs.

    Args:
        model: that writes.
        prompts: a list of them.
        recipe: one for all prompts, or a list with one each.
        seed: as for the recipe.
        sinks: who is told of the text of each prompt; None is nobody.
        cancelled: see `Asked`.
        held: have read the beginning of each prompt; None where nothing is read yet.
        **options: see `generate_batch`.

    Raises:
        LengthwiseError: for what is no list of prompts, and for lists of another length.
    """
    if isinstance(prompts, (str, Mapping, Document)) or not hasattr(prompts, "__len__"):
        raise LengthwiseError(
            f"prompts of type {type(prompts).__name__}: give a list of prompts, or one to generate"
        )
    if sinks is not None and len(sinks) != len(prompts):
        raise LengthwiseError(f"{len(sinks)} streams for {len(prompts)} prompts: give one each")
    plans = _plans(model, recipe, options.get("assistant_model"), len(prompts))
    seeds = _each("seed", seed, len(prompts), not isinstance(seed, (list, tuple, range)))
    known: dict[str, Any] = {name: options.get(name) for name in _SAMPLING if name in options}
    choices = [Sampling(**known, seed=each) for each in seeds]
    stop_ids = options.get("stop_ids")
    asked = Asked(
        plans[0] if plans else model.plan(), options.get("max_new_tokens", NEW_TOKENS),
        model.stop_ids() if stop_ids is None else stop_ids, options.get("stop", ()),
        options.get("chunk"), options.get("progress"), cancelled=cancelled,
        prefixes=model.prefix_cache,
    )  # fmt: skip
    special = options.get("special")
    rows = [
        Row(model.encode(prompt, special), choices[index],
            None if sinks is None else sinks[index], plan=plans[index],
            held=None if held is None else held[index])
        for index, prompt in enumerate(prompts)
    ]  # fmt: skip
    return Batch(model.adapted, model.tokenizer, rows, asked), rows


def close_batch(model: HeldModel, batch: Batch, rows: Seq[Row]) -> list[Generation]:
    """What came out of every row of a batch, as far as it was written.

    Args:
        model: that wrote.
        batch: as `open_batch` gave it.
        rows: beside the batch, one a prompt.
    """
    stop = list(batch.asked.stop)
    return [
        generation_of(row, done, model.tokenizer, stop)
        for row, done in zip(rows, batch.finish(), strict=True)
    ]


def open_stream(model: HeldModel, prompt: Prompt, recipe: RecipeLike, options: Options) -> Stream:
    """A stream of one prompt; raises before anything runs.

    Args:
        model: that writes.
        prompt: what it goes on from.
        recipe: one.
        options: see `generate`.
    """
    require_one(recipe)
    opened: list[Row] = []
    seed = options.get("seed", 0)
    others: Any = {name: value for name, value in options.items() if name != "seed"}

    def begin(sink: Callable[[str], None], stopped: Callable[[], bool]) -> Batch:
        batch, rows = open_batch(model, [prompt], [recipe], seed, [sink], stopped, **others)
        opened.extend(rows)
        return batch

    return Stream(begin, lambda batch: close_batch(model, batch, opened)[0])


def require_one(recipe: RecipeLike | Seq[RecipeLike]) -> None:
    """Refuses several recipes.

    Args:
        recipe: as a user gave it.

    Raises:
        LengthwiseError: for a list of recipes.
    """
    if not recipes.is_one(recipe):
        raise LengthwiseError(
            f"a list of recipes ({len(recipe)}) for one prompt: give one (+ joins methods), a list "  # type: ignore[arg-type]
            "with one for each prompt to generate_batch, or several to compare"
        )


def _plans(
    model: HeldModel, recipe: RecipeLike | Seq[RecipeLike], assistant: Any, count: int
) -> list[Plan]:
    """The plan of every row; rows of one recipe share one."""
    each = _each("recipe", recipe, count, recipes.is_one(recipe))
    parsed = [recipes.recipe_of(one) for one in each]
    if assistant is not None:
        parsed = [recipes.assisted(one, assistant) for one in parsed]
    plans = {text: model.plan(one) for text, one in {str(one): one for one in parsed}.items()}
    return [plans[str(one)] for one in parsed]


def _each(name: str, given: Any, count: int, one: bool) -> list[Any]:
    """What is given for each of `count` prompts: one for all, or a list with one each."""
    if one:
        return [given] * count
    if len(given) != count:
        raise LengthwiseError(
            f"{len(given)} of {name} for {count} prompts: give one, or one for each prompt"
        )
    return list(given)
