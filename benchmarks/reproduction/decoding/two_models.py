"""What routers between two models are measured by: stories15M held, TinyLlama-1.1B beside it.

Both are in bfloat16. A text is as good as the large model finds it likely: nats a token, teacher
forced, of what was written behind a prompt. Beside it stands how many of its first tokens are those
of the large model alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from benchmarks.reproduction.harness import Row
from benchmarks.reproduction.llama_pair import pair

import lengthwise
from lengthwise.api.model import Model

COLUMNS = {
    "recipe": "", "tokens by the large": ".0%", "active, M": ".0f", "all that was run, M": ".0f",
    "switches a text": ".1f", "nats a token": ".3f", "first tokens as the large": ".1f",
}  # fmt: skip
PROMPTS = (
    "Once upon a time, there was a little dog who",
    "The old man opened the door of the kitchen and",
    "Lily and her brother went to the park. They wanted to",
    "One morning the bird woke up and saw that",
    "Tom had a red car. His friend asked",
    "There was a big tree behind the house, and in it",
    "Mother said that dinner was ready, but Sam",
    "The cat was afraid of the water because",
)


@dataclass(frozen=True)
class Size:
    """How many of PROMPTS are gone on from, and with how many tokens."""

    prompts: int
    new: int


@cache
def models(folder: str = "") -> tuple[Model, Model, str]:
    """The small model, the large one, and the path by which a recipe names the large one.

    Args:
        folder: where they lie; none is the user's cache.
    """
    small, large = (
        lengthwise.load(str(each), dtype="bfloat16")
        for each in pair(Path(folder) if folder else None)
    )
    return small, large, lengthwise.drafting_model(large, "large")


def rows(
    recipes: Sequence[tuple[str, str]], folder: str, size: Size, alone: bool = True
) -> Iterator[Row]:
    """A row of `COLUMNS` for each model alone, and for each recipe.

    Args:
        recipes: name of a row, and the recipe on the small model.
        folder: where the models lie.
        size: of what is written.
        alone: whether rows of each model alone come first.
    """
    small, large, _ = models(folder)
    prompts = PROMPTS[: size.prompts]
    truth = [_written(large, prompt, "full", size.new).token_ids for prompt in prompts]
    runs = [("small alone", small, "full"), ("large alone", large, "full")] if alone else []
    for name, model, recipe in [*runs, *((name, small, recipe) for name, recipe in recipes)]:
        found = [_written(model, prompt, recipe, size.new) for prompt in prompts]
        own = sum(p.numel() for p in model.adapted.model.parameters())
        figures = [{k.split(": ")[1]: v for k, v in each.metrics.figures.items()} for each in found]

        def mean(what: str, default: float, figures: list[dict[str, float]] = figures) -> float:
            return sum(each.get(what, default) for each in figures) / len(figures)

        yield {
            "recipe": name,
            "tokens by the large": mean(
                "share of tokens by the second model", float(model is large)),
            "active, M": mean("active parameters a token, as the paper counts", own) / 1e6,
            "all that was run, M": mean("parameters a token, all that was run", own) / 1e6,
            "switches a text": mean("switches", 0),
            "nats a token": sum(
                _nats(large, prompt, each.token_ids)
                for prompt, each in zip(prompts, found, strict=True)
            ) / len(found),
            "first tokens as the large": sum(
                _common(each.token_ids, other) for each, other in zip(found, truth, strict=True)
            ) / len(found),
        }  # fmt: skip


@cache
def _written(model: Model, prompt: str, recipe: str, new: int) -> lengthwise.Generation:
    return model.generate(ids(model, prompt), recipe, max_new_tokens=new, stop_ids=[])


def ids(model: Model, prompt: str) -> list[int]:
    """Tokens of a prompt, with the token that begins texts."""
    assert model.tokenizer is not None
    return list(model.tokenizer.encode(prompt))


def _nats(model: Model, prompt: str, said: Sequence[int]) -> float:
    own = ids(model, prompt)
    scores = model.score([*own, *said])
    return -float(scores[-len(said) :].mean())


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    pairs = enumerate(zip(one, other, strict=False))
    return next((n for n, (a, b) in pairs if a != b), min(len(one), len(other)))


__all__ = ["COLUMNS", "PROMPTS", "Size", "ids", "models", "rows"]
