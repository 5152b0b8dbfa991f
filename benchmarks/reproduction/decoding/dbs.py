"""How different the texts of diverse beam search are, by its penalty."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks.reproduction.harness import Found, check, load, reference


def distinct(texts: Sequence[Sequence[int]], n: int = 2) -> float:
    """Share of n-grams, over all texts, that are no repetition of one."""
    grams = [tuple(text[at : at + n]) for text in texts for at in range(len(text) - n + 1)]
    return len(set(grams)) / max(1, len(grams))


@check({"recipe": "", "texts": ".1f", "first tokens": ".1f", "distinct-2": ".3f", "score": ".3f"})
def dbs(prompts: int = 10, tokens: int = 128, new: int = 24, width: int = 6) -> Iterator[Found]:
    """On stretches of a reference manual; the score is the best text's, nats a token."""
    model = load()
    ids = reference(model)
    recipes = [f"beam(width={width})"]
    recipes += [f"dbs(width={width}, diversity_penalty={p})" for p in (0.0, 0.2, 0.5, 0.8, 2.0)]
    for recipe in recipes:
        sums = [0.0] * 4
        for number in range(prompts):
            prompt = ids[number * tokens : (number + 1) * tokens]
            found = model.generate(prompt, recipe, max_new_tokens=new, stop_ids=[])
            texts = [draft.token_ids for draft in found.drafts]
            figures = (len(texts), len({text[0] for text in texts}), distinct(texts),
                       found.drafts[0].score)  # fmt: skip
            sums = [a + b for a, b in zip(sums, figures, strict=True)]
        means = [each / prompts for each in sums]
        names = ("texts", "first tokens", "distinct-2", "score")
        yield {"recipe": f"`{recipe}`", **dict(zip(names, means, strict=True))}
