"""Attention in Triton over chosen keys, which are read where they lie and not copied.

A selection chooses some thousand of many far keys, for all heads or for each. To copy them costs
more than to attend to them. It is the program of `tree`, whose keys are looked up by their ids.
"""

from __future__ import annotations

from lengthwise.engine.kernels import tree
from lengthwise.engine.kernels.attempts import attempt, works
from lengthwise.engine.kernels.choice import chosen
from lengthwise.engine.kernels.part import Answer, Asked, Chosen
from lengthwise.engine.kernels.plain import plain

NAME = "gather"


def can(asked: Chosen) -> bool:
    """Whether Triton runs there, and has products of these."""
    return tree.can(asked.query, asked.key, asked.value)


def serves(asked: Chosen) -> bool:
    """Whether chosen keys are to be read in place here, and have not failed to be."""
    return (
        can(asked)
        and works(NAME, asked.query, asked.key)
        and chosen("chosen", asked.query, asked.key) == NAME
    )


def attend(asked: Chosen, scaling: float, softcap: float | None = None) -> Answer | None:
    """Output and LSE, as of a `Part`; None where that fails here."""
    return attempt(
        NAME, asked.query, asked.key, lambda: run(asked, scaling, softcap),
        lambda: plain(Asked([asked.part()], scaling, softcap, need_lse=True)),
    )  # fmt: skip


def run(asked: Chosen, scaling: float, softcap: float | None = None) -> Answer:
    """`attend`, which raises what it raises."""
    return tree.attend_spans(
        asked.query, asked.key, asked.value, scaling, softcap, mask=asked.mask,
        log_weight=asked.log_weight, ids=asked.ids,
    )  # fmt: skip


__all__ = ["NAME", "attend", "can", "run", "serves"]
