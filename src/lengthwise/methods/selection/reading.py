"""What all selections share: how many tokens a query reads, and where the far keys lie.

A selection's budget counts everything a query reads, its window and first tokens included, so that
one number compares methods. It deletes nothing: bytes held stay those of full attention.

A window releases its oldest tokens a few at a time. So it overhangs by up to a quarter of itself,
63 tokens at most. What is read in any case, the overhang included, comes off the budget, and the
rest is chosen. So no query reads more than was asked, except where an option says so of prompts.
"""

from __future__ import annotations

from torch import Tensor

from lengthwise.engine.kv_cache.kv_store import KVStore
from lengthwise.engine.kv_cache.offload import PLACES
from lengthwise.engine.kv_cache.placement import MAX_SLACK, Placement, slack_of
from lengthwise.errors import RecipeError, Refused
from lengthwise.methods.base import Method, option
from lengthwise.methods.budget import Budget
from lengthwise.models.adapted_model import AdaptedModel


def overhang(window: int) -> int:
    """Most tokens beyond its own that a selection's window holds.

    Args:
        window: in tokens.
    """
    return slack_of(window, selecting=True) - 1


def check_budget(name: str, budget: Budget, always: int, least: int, window: int) -> None:
    """Raises RecipeError where a budget leaves fewer than `least` tokens to choose.

    always: tokens that are read in any case, without the overhang of the `window`. A share is
    resolved while running and then chooses at least `least` tokens.
    """
    always += overhang(window)
    if budget.unit == "tokens" and budget.tokens(0, 1.0) < always + least:
        raise RecipeError(
            f"{name}(budget={budget}): {always} tokens are read in any case and at least {least} "
            f"must be left to choose; give budget={always + least} or more, or a smaller window"
        )


def check_window(name: str, budget: Budget, beside: int, least: int, placement: Placement) -> None:
    """Raises Refused where a recipe's window, which may be another method's, leaves a budget fewer
    than `least` tokens to choose.

    Args:
        name: of the method.
        budget: tokens that a query reads in all, or a share, which chooses at least `least`.
        beside: tokens that are read in any case beside the window.
        least: what has to be left.
        placement: the recipe's.
    """
    window = placement.window
    if window is None or budget.unit != "tokens":
        return
    always = window + overhang(window) + beside
    if budget.tokens(0, 1.0) < always + least:
        raise Refused(
            f"{name}(budget={budget}): in this recipe the window is {window} tokens, {always} are "
            f"read in any case and at least {least} must be left to choose",
            f"give {name}(budget={always + least}) or more, or a smaller window to the method that "
            "places far tokens",
        )


def chosen_tokens(budget: Budget, always: int, least: int, last: int) -> int:
    """Far tokens that may be chosen where `always` are read in any case.

    Args:
        budget: tokens that a query reads in all, or a share.
        always: tokens read in any case, the window's overhang included.
        least: what is chosen at least.
        last: birth id of the last query that reads them; a share is one of the text up to there.
    """
    return max(least, budget.tokens(last + 1, 1.0) - always)


def reads_all(budget: Budget, held: int, near: int, later: int) -> bool:
    """Whether a budget leaves nothing out, whatever is chosen until the window moves next.

    Args:
        budget: tokens that a query reads in all, or a share.
        held: far keys.
        near: tokens from the beginning of the window on, which may be another method's.
        later: most queries behind the one of a choice that read it too.
    """
    return budget.unit == "tokens" and held + near + MAX_SLACK + later <= budget.amount


def far_keys(far: KVStore) -> Tensor:
    """Keys `[kv_heads, n, head_dim]` of the far store as they are stored (decoded if encoded).

    Args:
        far: the far entries of one layer, at least one.
    """
    return far.keys()


def by_key_head(query: Tensor, kv_heads: int) -> Tensor:
    """Queries `[heads, n, head_dim]` -> `[kv_heads, group * n, head_dim]`.

    Args:
        query: of all heads; those that share a key head stand side by side.
        kv_heads: key heads; it divides the number of heads.
    """
    return query.reshape(kv_heads, -1, query.shape[-1])


def offload_option() -> str:
    found: str = option(
        "none",
        "where far blocks live: none (on the device), cpu, or disk (a temporary file, see TMPDIR)",
        choices=PLACES,
    )
    return found


def check_offload(method: Method, where: str, model: AdaptedModel) -> None:
    """Raises Refused where the device is the place that is asked for."""
    if where == "cpu" and model.device.type == "cpu":
        raise Refused(
            f"{method.name}(offload=cpu): the model's cache is in CPU memory already",
            "offload=disk saves memory",
        )


__all__ = [
    "by_key_head", "check_budget", "check_offload", "check_window", "chosen_tokens", "far_keys",
    "offload_option", "overhang", "reads_all",
]  # fmt: skip
