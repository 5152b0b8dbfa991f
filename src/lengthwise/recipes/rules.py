"""Which methods may run together, as rules over what they declare, never over their names.

Every rule looks at two pieces of a recipe and gives a reason and a way out, or nothing.
"""

from __future__ import annotations

from collections.abc import Callable

from lengthwise.engine.kv_cache.placement import ORDINARY
from lengthwise.errors import Refused
from lengthwise.methods import slots
from lengthwise.methods.base import Question
from lengthwise.recipes.piece import Piece

# A codec in one piece, or its two halves, of which a recipe may have one each.
ENCODES = frozenset(slot.hook for slot in slots.SLOTS if slot.fills == "codec")

# Asked of every pair of a recipe, both ways round: why `a` cannot run beside `b`, or None.
Rule = Callable[[Piece, Piece], Refused | None]


def same_twice(a: Piece, b: Piece) -> Refused | None:
    """A method stands in a recipe once."""
    if a.name != b.name:
        return None
    return Refused(f"{a.name} is given twice", "give it once")


def one_owner(a: Piece, b: Piece) -> Refused | None:
    """One method decides each thing; only drafters add up."""
    for slot in slots.SLOTS:
        if slot.owns and slot.hook in a.hooks and slot.hook in b.hooks:
            return Refused(
                f"{a.name} and {b.name} both decide {slot.owns}", f"choose {a.name} or {b.name}"
            )
    return None


def whole_codec(a: Piece, b: Piece) -> Refused | None:
    """Channels and numbers are halves of a codec; a codec in one piece decides both."""
    if "start_codec" not in a.hooks or not b.hooks & (ENCODES - {"start_codec"}):
        return None
    return Refused(
        f"{a.name} and {b.name} both decide how keys and values are stored",
        f"choose {a.name} or {b.name}",
    )


def one_placement(a: Piece, b: Piece) -> Refused | None:
    """Of two placements one must be a selection's plain window, which gives way."""
    if a.placement is None or b.placement is None or a.gives_way or b.gives_way:
        return None
    return Refused(
        f"{a.name} and {b.name} both decide at which positions far tokens stand",
        f"choose {a.name} or {b.name}",
    )


def frozen(a: Piece, b: Piece) -> Refused | None:
    """What is made of rotated keys becomes wrong when they turn."""
    if not (a.moves_stored_keys and b.method.frozen_positions):
        return None
    does = "keeps them un-rotated" if a.rule is None else "turns them as the text grows"
    remedy = f"choose {a.name} or {b.name}"
    if a.method.question == Question.POSITIONS:
        remedy = f"replace {a.name} by a method whose positions stay, such as ntk or yarn"
    return Refused(
        f"{b.name} works on keys at the positions they were stored with, and {a.name} {does}",
        remedy,
    )


def all_near(a: Piece, b: Piece) -> Refused | None:
    """What needs ordinary positions bears no placement that sets keys apart."""
    where = b.placement
    if not a.method.ordinary_only or where is None or where == ORDINARY:
        return None
    return Refused(
        f"{a.name} needs every key near and at its ordinary position, and {b.name} sets some apart",
        f"drop {b.name}, or replace {a.name} by a method that works beyond a window",
    )


def nothing_beyond(a: Piece, b: Piece) -> Refused | None:
    """Selections, retentions and codecs work on what lies beyond the window."""
    hooks = b.hooks & (ENCODES | {"start_selector", "start_retention"})
    if not a.bounded or not hooks:
        return None
    return Refused(
        f"{a.name} keeps at most a few first tokens beyond its window, so {b.name} has nothing to "
        "work on",
        f"choose {a.name} or {b.name}",
    )


def heads_apart(a: Piece, b: Piece) -> Refused | None:
    """Where heads keep unequal numbers, each as it stands, the rest of a recipe reads whole prompts
    and leaves what is kept alone."""
    if "head_table" not in a.hooks:
        return None
    remedy = f"choose {a.name} or {b.name}"
    if "start_retention" in b.hooks:
        return Refused(f"{a.name} and {b.name} both decide what is kept", remedy)
    if "start_drafter" in b.hooks and (inner := getattr(b.method, "recipe", "")):
        return Refused(
            f"{b.name}(recipe={inner}) prunes a copy of what {a.name} keeps, whose heads hold "
            "unequal numbers",
            f"use {b.name} without a recipe, or another drafter",
        )
    if b.placement is not None and not b.gives_way:
        return Refused(
            f"{a.name} has heads that keep tokens at their ordinary positions, and {b.name} places "
            "those of all heads anew",
            remedy,
        )
    if b.reads_by_block or (b.method.prompts_only and a.splits_heads):
        return Refused(
            f"{a.name} has heads that keep unequal numbers of tokens, and {b.name} selects for "
            "blocks of a prompt over all of them",
            f"replace {b.name} by a selection that reads prompts whole, such as quest",
        )
    return None


def among_documents(a: Piece, b: Piece) -> Refused | None:
    """Selections and retentions choose among the tokens of one text."""
    if (
        a.contexts is None
        or not a.contexts.beside
        or not b.hooks & {"start_selector", "start_retention", "head_table"}
    ):
        return None
    return Refused(
        f"{b.name} chooses among the tokens of one text, and {a.name} has documents beside it",
        f"drop {b.name}; frequencies, codecs and drafters go with {a.name}",
    )


def by_distance(a: Piece, b: Piece) -> Refused | None:
    """What is added to logits is added where all keys are read and nobody sums their weights."""
    others = {"start_selector", "start_retention", "head_table", "contexts"}
    if "distance_bias" not in a.hooks or not (b.hooks & others or b.method.mixes_tokens):
        return None
    return Refused(
        f"{a.name} adds to every logit what its distance says, and {b.name} reads keys otherwise",
        f"drop {b.name}; frequencies, codecs and drafters go with {a.name}",
    )


def evict_then_retrieve(a: Piece, b: Piece) -> Refused | None:
    """A selection finds nothing that a retention has deleted."""
    if "start_selector" not in a.hooks or "start_retention" not in b.hooks:
        return None
    if a.method.prompts_only:
        return while_reading(a, b)
    return Refused(
        f"{a.name} can only find what {b.name} has not deleted, and its index names entries that "
        "go",
        f"use {a.name} with a codec instead of {b.name}, which keeps everything in less memory",
    )


def while_reading(a: Piece, b: Piece) -> Refused | None:
    """What chooses for prompts alone finds all there until the prompt has been read."""
    if not (b.method.deletes_each_step or b.sums_attention):
        return None
    return Refused(
        f"{a.name} leaves most keys of a prompt unread, and {b.name} deletes by what every query "
        "gives them",
        f"use {a.name} with a method that deletes once after the prompt, such as snapkv",
    )


def offloaded(a: Piece, b: Piece) -> Refused | None:
    """Entries that live off the device are plain and stand where their selection puts them."""
    if a.placement is None or a.placement.offload is None:
        return None
    if b.hooks & ENCODES:
        return Refused(
            f"{a.name}(offload={a.placement.offload.where}) and {b.name} both decide how far keys "
            "and values are stored",
            f"drop {b.name}, or give {a.name}(offload=none)",
        )
    if b.placement is not None:
        return Refused(
            f"{a.name}(offload={a.placement.offload.where}) keeps what has left its own window off "
            f"the device, and {b.name} decides what that is instead",
            f"drop {b.name}, or give {a.name}(offload=none)",
        )
    return None


def delete_encoded(a: Piece, b: Piece) -> Refused | None:
    """What is encoded together cannot lose entries one by one."""
    if not a.method.deletes_each_step or not b.hooks & ENCODES or b.method.deletable:
        return None
    return Refused(
        f"{a.name} deletes at every step from what {b.name} has encoded in blocks",
        f"use {b.name} with a method that deletes once after the prompt, such as snapkv, or "
        f"{a.name} with int8 or think, whose entries can be deleted one by one",
    )


def encode_weighed(a: Piece, b: Piece) -> Refused | None:
    """What is encoded carries no weight of its own."""
    if not getattr(a.method, "weighs", False) or not b.hooks & ENCODES:
        return None
    return Refused(
        f"{a.name} stores entries that weigh more than one token, and {b.name} encodes keys and "
        "values without their weights",
        f"drop {b.name}, or give {a.name}(weigh=none)",
    )


def renew_in_place(a: Piece, b: Piece) -> Refused | None:
    """What is computed again must lie plain and at its ordinary place."""
    if "start_renewal" not in a.hooks or not (b.hooks & ENCODES or b.placement is not None):
        return None
    does = "encodes them" if b.hooks & ENCODES else "decides where they stand"
    return Refused(
        f"{a.name} computes entries again while writing, and {b.name} {does}",
        f"drop {b.name}, or have {a.name} leave entries as they are",
    )


def nothing_to_guess(a: Piece, b: Piece) -> Refused | None:
    """A mode settles no token before its end, so there is none to guess, verify or budget for."""
    if "start_mode" not in a.hooks or not b.hooks & {
        "start_drafter", "start_verifier", "start_policy",
    }:  # fmt: skip
        return None
    return Refused(
        f"{a.name} writes several texts at once and settles none before the end, so {b.name} has "
        "no next token to work on",
        f"choose {a.name} or {b.name}",
    )


def law_of_moments(a: Piece, b: Piece) -> Refused | None:
    """A law that depends on what it was asked before serves one text alone, in its order."""
    if "start_law" not in a.hooks:
        return None
    if b.method.mixes_tokens:
        return Refused(
            f"{a.name} looks at the tokens of one text, and {b.name} writes in mixtures of several",
            f"choose {a.name} or {b.name}",
        )
    guesses = b.hooks & {"start_drafter", "start_verifier", "start_policy"}
    if a.method.by_path or not (guesses or "start_mode" in b.hooks):
        return None
    does = "asks of guesses that may be wrong" if guesses else "grows several texts at once"
    return Refused(
        f"what {a.name} says of a token depends on when it is asked, and {b.name} {does}",
        f"choose {a.name} or {b.name}",
    )


def covers_all(a: Piece, b: Piece) -> Refused | None:
    """What counts attention to a prompt, or moves what it left, has to find the whole prompt."""
    name = next((name for name in ("coverage", "hso") if getattr(a.method, name, 0.0)), None)
    if name is None:
        return None
    moves = {"start_selector", "start_retention", "head_table", "contexts", "distance_bias"}
    if b.placement is None and not b.hooks & (moves | ENCODES):
        return None
    return Refused(
        f"{a.name}({name}=...) looks at every token of the prompt, and {b.name} keeps or reads "
        "them otherwise",
        f"drop {b.name}, or leave {name} out",
    )


RULES: tuple[Rule, ...] = (
    same_twice, one_owner, whole_codec, nothing_to_guess, law_of_moments, covers_all,
    among_documents, by_distance, evict_then_retrieve, heads_apart, one_placement, nothing_beyond,
    offloaded, delete_encoded, encode_weighed, renew_in_place, all_near, frozen,
)  # fmt: skip


__all__ = ["ENCODES", "RULES", "Rule"]
