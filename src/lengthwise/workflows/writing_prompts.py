"""What a model is asked while a long text is written, in our words, and what of it is shown again.

The structure is that of AgentWrite: for the plan the instruction and the form of a line; for a part
the instruction, the plan, the text so far, and the part that comes next.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass

from lengthwise.methods.prompts import TextModel
from lengthwise.workflows.writing_plan import Part, as_text

PLAN = """A long text is to be written in parts. Plan it, and do not write it yet.

What is asked for:

{instruction}

Give one line for each part, about {count} in all, in this form:

Part 1 - Main point: what this part says, in a sentence - Words: how many

Each part has {least} to {most} words, and all parts together have {words}. Cover all that is \
asked for. Write these lines and nothing else."""
# Shorter, for a model that did not keep to the form above.
HEADINGS = """{instruction}

List {count} headings for it, numbered 1 to {count}, one on a line."""
_PART = """You write a long text part by part.

What is asked for:

{instruction}

Its parts:

{plan}

{written}Now write part {number} of {count}: {point}

{wish} Write this part alone, and do not repeat what is written. {end}"""
_WRITTEN = """What is written so far:

{text}

"""
# The last ones are for a model that has said all it had to say on the point.
_WISHES = (
    "Write about {words} words.",
    "This part is too short: go on with it, with about {words} words more.",
    "This part is too short: add about {words} words, with an example that was not given yet.",
    "This part is too short: add about {words} words, with what was left out so far.",
)
_MORE, _LAST = (
    "Do not end the text: more parts follow.",
    "It is the last part: end the text with it.",
)
# Of the room for a prompt the plan takes this share at most.
_PLAN_SHARE = 0.25
# Tokens of the template around a prompt, at most.
TEMPLATE = 64


@dataclass(frozen=True)
class Asked:
    """A prompt for a part. frame: it without plan and text. shown: whether all of them stand in it.
    over: tokens that it has beyond its room even so."""

    prompt: str
    frame: str
    shown: bool
    over: int = 0


def part_prompt(
    model: TextModel, instruction: str, plan: Seq[Part], number: int, written: str,
    wish: tuple[int, int], room: int,
) -> Asked:  # fmt: skip
    """What is asked for a part: the end of the text so far and, where that is not enough, the lines
    of the plan around the part, as far as there is room.

    Args:
        model: that counts tokens.
        instruction: the user's.
        plan: all of it.
        number: of the part, from 1.
        written: the text so far.
        wish: which time the part is asked for, from 0, and the words that are wanted.
        room: tokens of the prompt.
    """
    times, words = wish
    fields = {
        "instruction": instruction, "number": number, "count": len(plan),
        "point": plan[number - 1].point, "end": _MORE if number < len(plan) else _LAST,
        "wish": _WISHES[min(times, len(_WISHES) - 1)].format(words=words),
    }  # fmt: skip
    frame = _PART.format(plan="", written="", **fields)
    bare = model.count(frame)
    lines, all_lines = _lines(model, plan, number, max(1, round((room - bare) * _PLAN_SHARE)))
    left = room - bare - model.count(lines) - model.count(_WRITTEN.format(text=""))
    text = end_of(model, written, max(0, left))
    shown = _WRITTEN.format(text=text.strip()) if text.strip() else ""
    prompt = _PART.format(plan=lines, written=shown, **fields)
    whole = all_lines and text == written
    return Asked(prompt, frame, whole, max(0, model.count(prompt) - room))


def _lines(model: TextModel, plan: Seq[Part], number: int, room: int) -> tuple[str, bool]:
    """The plan; where it is too long without its first lines, and then without its last."""
    first, last = 0, len(plan)
    text = as_text(plan)
    while model.count(text) > room and last - first > 1:
        first, last = (first + 1, last) if first < number - 1 else (first, last - 1)
        text = as_text(plan[first:last], first + 1)
    return text, last - first == len(plan)


def end_of(model: TextModel, text: str, tokens: int) -> str:
    """The end of a text that has so many tokens at most, from a word on.

    Args:
        model: that counts.
        text: any.
        tokens: how many; 0 is nothing.
    """
    if not tokens:
        return ""
    spans = model.spans(text)
    if len(spans) <= tokens:
        return text
    found = text[spans[-tokens][0] :]
    # A cut within a word may make other tokens, more of them.
    while found and model.count(found) > tokens:
        found = found[1:]
    start = next((n for n, each in enumerate(found) if each.isspace()), 0)
    return found[start:].lstrip() or found


__all__ = ["HEADINGS", "PLAN", "TEMPLATE", "Asked", "end_of", "part_prompt"]
