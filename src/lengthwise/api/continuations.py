"""Log-probabilities of many continuations: what benchmarks of multiple choice ask of a model.

A context is read once, however many continuations are asked of it, and these go through the model
in one forward, as branches that do not see each other (`engine/branches.py`). What contexts begin
with in common is read once too, where the recipe lets entries be shared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence as Seq
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lengthwise.api.batch import SHARED, Asked, Batch, Row
from lengthwise.api.held_model import HeldModel
from lengthwise.api.prefixes import prefix_cache_of
from lengthwise.engine import loop
from lengthwise.engine.branches import TOKENS, forced_branches
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.losses import Losses
from lengthwise.engine.plan import Plan
from lengthwise.engine.sampling import Sampling
from lengthwise.errors import LengthwiseError
from lengthwise.models.limits import require_positions
from lengthwise.models.obstacles import no_autocast
from lengthwise.recipes import RecipeLike

# Bytes of what contexts begin with in common, held while they are read; the model's own cache
# serves where it has one.
PREFIX_BYTES = 1 << 30

Ids = tuple[int, ...]


@dataclass(frozen=True)
class Scored:
    """A continuation. logprobs: natural log-probability of each of its tokens. greedy: whether each
    is the likeliest one where it stands."""

    logprobs: tuple[float, ...]
    greedy: bool

    @property
    def total(self) -> float:
        """Log-probability of all of them together."""
        return sum(self.logprobs)


@dataclass
class _Asked:
    """What is asked behind one context: of each continuation the numbers of its pairs."""

    context: Ids
    continuations: dict[Ids, list[int]]


@no_autocast()
def score_continuations(
    model: HeldModel, pairs: Seq[tuple[Seq[int], Seq[int]]], recipe: RecipeLike = "full", *,
    batch_size: int = 8, chunk: int | None = None, most: int = TOKENS,
    told: Callable[[int, Scored], None] | None = None,
) -> list[Scored]:  # fmt: skip
    """Log-probabilities of continuations behind their contexts, under a recipe.

    The context is read as a prompt, so retention and codecs act at its end, and a continuation is
    fed as decoding would feed it. Drafting has no say here.

    Args:
        model: that scores.
        pairs: ids of a context and of what follows it, each at least one.
        recipe: as for `Model.generate`.
        batch_size: contexts that are read at a time.
        chunk: tokens of a prefill forward; None leaves it to the device.
        most: tokens of a forward of continuations.
        told: called with the number of a pair and what was found, as it is found.

    Returns:
        What was found of each pair, in their order.

    Raises:
        LengthwiseError: for an empty context or continuation, and ids outside the vocabulary.
        Refused: where the recipe cannot serve this model, or a context; before anything runs.
        NotFinite: where the model's logits are no numbers.
        OutOfMemory: where memory runs out.
    """
    plan = scoring_plan(model.plan(recipe))
    asked = _ordered(_by_context(model, pairs))
    for each in asked:
        longest = max(map(len, each.continuations))
        require_positions(model.adapted, len(each.context) + longest - 1)
        plan.check_prompt(len(each.context))
    found: list[Scored | None] = [None] * len(pairs)
    prefixes = model.prefix_cache or prefix_cache_of(model.adapted, PREFIX_BYTES)
    shares = _shared([each.context for each in asked])
    for start in range(0, len(asked), batch_size):
        part = slice(start, start + batch_size)
        options = Asked(plan, 1, (), chunk=chunk, prefixes=prefixes if any(shares[part]) else None)
        sequences = _read(model, [each.context for each in asked[part]], options)
        for numbers, scored in _score(list(zip(sequences, asked[part], strict=True)), most):
            for number in numbers:
                found[number] = scored
                if told is not None:
                    told(number, scored)
    return [each for each in found if each is not None]


@no_autocast()
def score_text(
    model: HeldModel, ids: Seq[int], recipe: RecipeLike = "full", *, chunk: int | None = None
) -> Tensor:
    """Log-probabilities of the tokens of a text that is read as a prompt is.

    As `Model.score` without a prompt, but the last token is predicted and not read: a text may be
    one token longer than the model's positions.

    Args:
        model: that scores.
        ids: two or more.
        recipe: as for `Model.generate`.
        chunk: tokens of a prefill forward; None leaves it to the device.

    Returns:
        float32 `[n - 1]`, of every token but the first.

    Raises:
        LengthwiseError: for fewer than two ids, and for ids outside the vocabulary.
        Refused: where the recipe cannot serve this model, or as many tokens.
        NotFinite: where the model's logits are no numbers.
    """
    tokens = model.encode(list(ids))
    if len(tokens) < 2:
        raise LengthwiseError("a text to score has at least two tokens")
    plan, losses = scoring_plan(model.plan(recipe)), Losses()
    plan.check_prompt(len(tokens) - 1)
    sequence = Sequence(model.adapted, plan, expected=len(tokens) - 1)
    last = loop.prefill(sequence, tokens[:-1], chunk, losses=losses)
    behind = torch.log_softmax(last.float(), -1)[tokens[-1]]
    return torch.cat([-torch.tensor(losses.values, dtype=torch.float32), behind.cpu()[None]])


@no_autocast()
def laws_along(
    model: HeldModel, context: Seq[int], continuation: Seq[int], recipe: RecipeLike = "full", *,
    chunk: int | None = None,
) -> Tensor:  # fmt: skip
    """The law of the next token before each token of a continuation.

    The context is read as a prompt, and the continuation is fed as decoding would feed it.

    Args:
        model: that is asked.
        context: ids, at least one.
        continuation: ids, at least one.
        recipe: as for `Model.generate`.
        chunk: tokens of a prefill forward; None leaves it to the device.

    Returns:
        Natural log-probabilities, float32 `[len(continuation), vocab]`.

    Raises:
        LengthwiseError: for an empty context or continuation, and ids outside the vocabulary.
        Refused: where the recipe cannot serve this model or context; before anything runs.
        NotFinite: where the model's logits are no numbers.
    """
    (asked,) = _by_context(model, [(context, continuation)])
    (rest,) = asked.continuations
    plan = scoring_plan(model.plan(recipe))
    require_positions(model.adapted, len(asked.context) + len(rest) - 1)
    plan.check_prompt(len(asked.context))
    sequence = Sequence(model.adapted, plan, expected=len(asked.context) + len(rest))
    loop.prefill(sequence, asked.context, chunk)
    sequence.end_prefill()
    return torch.log_softmax(loop.teacher_force(sequence, rest).float(), -1).cpu()


def scoring_plan(plan: Plan) -> Plan:
    """A plan without what has no say where given tokens are scored: who guesses, and how tokens
    are chosen.

    Args:
        plan: of a recipe.
    """
    return replace(
        plan, drafters=(), verifier=None, policy=None, mode=None, laws=(), first_token=None
    )


def _by_context(model: HeldModel, pairs: Seq[tuple[Seq[int], Seq[int]]]) -> list[_Asked]:
    found: dict[Ids, _Asked] = {}
    for number, (context, continuation) in enumerate(pairs):
        for what, ids in (("context", context), ("continuation", continuation)):
            if not len(ids):
                raise LengthwiseError(f"pair {number}: its {what} is empty; give a token or more")
        before, after = tuple(model.encode(list(context))), tuple(model.encode(list(continuation)))
        asked = found.setdefault(before, _Asked(before, {}))
        asked.continuations.setdefault(after, []).append(number)
    return list(found.values())


def _ordered(asked: list[_Asked]) -> list[_Asked]:
    """Contexts that begin alike next to each other, families with the longest context first: if
    memory runs out, it does so at once."""
    families: dict[Ids, list[_Asked]] = {}
    for each in asked:
        families.setdefault(each.context[:SHARED], []).append(each)
    ranked = sorted(families.values(), key=lambda family: -max(len(a.context) for a in family))
    return [each for family in ranked for each in sorted(family, key=lambda a: a.context)]


def _shared(contexts: Seq[Ids]) -> list[bool]:
    """Of each context whether a neighbour begins with the same tokens, enough to be kept."""
    alike = [
        len(one) > SHARED and one[:SHARED] == other[:SHARED]
        for one, other in zip(contexts, contexts[1:], strict=False)
    ]
    return [a or b for a, b in zip([False, *alike], [*alike, False], strict=True)][: len(contexts)]


def _read(model: HeldModel, contexts: Seq[Ids], asked: Asked) -> list[Sequence]:
    """Contexts that were read, and ended."""
    batch = Batch(model.adapted, None, [Row(each, Sampling()) for each in contexts], asked)
    refused = next((each for each in batch.refusals if each is not None), None)
    if refused is not None:
        raise refused
    batch.read()
    for request, _ in batch.begun:
        if request.failed is not None:
            raise request.failed
    return [request.sequence for request, _ in batch.begun]


def _score(read: list[tuple[Sequence, _Asked]], most: int) -> Iterator[tuple[list[int], Scored]]:
    """Scores of all continuations, as they are found, each with the numbers of its pairs."""
    rows = [(sequence, list(asked.continuations)) for sequence, asked in read]
    done: dict[tuple[int, int], list[tuple[float, bool]]] = {}
    for row, number, logits in forced_branches(rows, most):
        tokens, judged = rows[row][1][number], done.setdefault((row, number), [])
        judged += _judged(logits, tokens[len(judged) :][: len(logits)])
        if len(judged) == len(tokens):
            logprobs, likeliest = zip(*done.pop((row, number)), strict=True)
            yield read[row][1].continuations[tokens], Scored(logprobs, all(likeliest))


def _judged(logits: Tensor, tokens: Seq[int]) -> list[tuple[float, bool]]:
    """Log-probability of each token, and whether none is likelier, of logits `[n, vocab]`."""
    logits = logits.float()
    targets = torch.tensor(tokens, device=logits.device)[:, None]
    logprobs = torch.log_softmax(logits, -1).gather(1, targets)[:, 0]
    greedy = logits.argmax(-1) == targets[:, 0]
    return list(zip(logprobs.tolist(), greedy.tolist(), strict=True))


__all__ = ["Scored", "laws_along", "score_continuations", "score_text", "scoring_plan"]
