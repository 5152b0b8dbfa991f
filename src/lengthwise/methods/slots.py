"""What a recipe decides: one slot for each thing, declared here and nowhere else.

A slot names the question that it belongs to and the hook by which a method answers. From `SLOTS`
follow the questions that a method may name, who owns what in a recipe, and the plan that the engine
runs. So do the order of `lengthwise methods` and `lengthwise check`, and the headings of the pages.
A new question, or a new role within one, is one entry here and the code in the engine that asks it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Per = Literal["model", "sequence", "layer", "prompt"]


@dataclass(frozen=True)
class Slot:
    """One thing that a recipe decides.

    question: what methods that answer it name as their question. asks: the question in words; the
    first slot of a question gives it.
    hook: the function of a method's class that answers, and that makes a method one of this slot by
    being there.
    owns: what is decided, in words, as in "A and B both decide what is kept": of two methods that
    have the hook one is refused. Empty where answers add up or are settled by rules of their own.
    per: what the hook is asked for. "layer": it is given a layer's facts, and makes the state of
    one layer of one sequence. "sequence": it is given the model, and makes the state of one
    sequence. "model": it is given the model once, and what it returns is the answer. "prompt": it
    is given documents and a question before anything of them is read.
    fills: the field of the plan where the answer stands; without one it is `Plan.answers[hook]`.
    many: all methods of a recipe answer, and the plan holds a tuple.
    joined: the field takes more than this one hook, and is put together by the resolver.
    via: a function of the method's class that is given the model and returns the hook, as it is for
    that model.
    """

    question: str
    hook: str
    asks: str = ""
    owns: str = ""
    per: Per = "sequence"
    fills: str = ""
    many: bool = False
    joined: bool = False
    via: str = ""


_STORED = "how keys and values are stored"

SLOTS: tuple[Slot, ...] = (
    Slot("positions", "frequencies", "Where is each token?", owns="the rotary frequencies",
         per="model", fills="rule", joined=True),
    Slot("positions", "placement", per="model", fills="placement", joined=True),
    Slot("positions", "query_scale", owns="how logits grow with the position", per="model",
         fills="query_scale"),
    Slot("positions", "contexts", owns="where documents that are set apart stand", per="model",
         fills="contexts"),
    Slot("positions", "distance_bias", owns="what distance adds to a logit", per="layer",
         fills="bias"),
    Slot("selection", "start_selector", "Which keys does a query read?",
         owns="which keys a query reads", per="layer", fills="selector", via="selectors"),
    Slot("selection", "start_renewal", owns="which entries are computed again", fills="renewal"),
    Slot("retention", "start_retention", "What is kept, what is dropped?", owns="what is kept",
         fills="retention"),
    Slot("retention", "head_table", owns="which heads keep what", per="model", fills="head_table"),
    Slot("codecs", "start_codec", "How is it stored?", owns=_STORED, per="layer", fills="codec",
         joined=True),
    Slot("codecs", "start_format", owns=_STORED, per="layer", fills="codec", joined=True),
    Slot("codecs", "start_channels", owns="which channels of keys are stored", per="layer",
         fills="codec", joined=True),
    Slot("drafting", "start_drafter", "What is guessed ahead?", fills="drafters", many=True),
    Slot("drafting", "start_verifier", owns="which guesses are accepted", fills="verifier"),
    Slot("drafting", "start_policy", owns="how much is guessed", per="model", fills="policy"),
    Slot("decoding", "start_law", "How is a text chosen from the model's laws?", fills="laws",
         many=True),
    Slot("decoding", "start_mode", owns="how the text is written", fills="mode"),
    Slot("prompting", "write_prompt", "What enters the context?", owns="what enters the context",
         per="prompt"),
    Slot("prompting", "first_token", owns="how an answer begins", per="model",
         fills="first_token"),
)  # fmt: skip


def questions() -> dict[str, str]:
    """Every question, in the order of its slots, with its words."""
    found: dict[str, str] = {}
    for slot in SLOTS:
        found[slot.question] = found.get(slot.question) or slot.asks
    return found


__all__ = ["SLOTS", "Slot", "questions"]
