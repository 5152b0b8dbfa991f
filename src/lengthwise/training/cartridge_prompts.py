"""What the two bots of self-study are told: five kinds of question about a chunk of the corpus.

The kinds are those of the authors' code: structuring, summarization, question, use_case, creative.
The words are ours.
"""

from __future__ import annotations

from random import Random

KINDS = ("structuring", "summarization", "question", "use_case", "creative")

_SYSTEM = """\
Below is a part of a larger text, which somebody will talk with you about. Other parts are left out.
Answer directly, and do not mention that you were given a passage.

<text>
{chunk}
</text>
"""
_ALONE = "Write that message and nothing else."
_NAMED = "Name people, places, titles, dates or numbers, so that it is clear what is meant."
_FORMATS = ("JSON", "YAML", "TOML", "INI", "XML", "a plain list")
_SEEDS: dict[str, tuple[str, ...]] = {
    "structuring": (
        "Write a message that asks an assistant to put what one part of the text says into "
        "{format}. Say which part and what it is about. Ask for exact names, dates and numbers. "
        + _ALONE,
        "Write a message that asks an assistant to collect everything the text says about one "
        "subject of your choice as {format}. " + _NAMED + " " + _ALONE,
    ),
    "summarization": (
        "Write a message that asks an assistant to sum up one section of the text. Say exactly "
        "which section. " + _NAMED + " " + _ALONE,
        "Write a message that asks for a short summary of one thing the text explains. "
        + _NAMED + " " + _ALONE,
    ),
    "question": (
        "Write one question that tests whether somebody knows what the text says. " + _NAMED
        + " Write the question and nothing else.",
        "Write one question that can be answered by somebody who has read the text, and who does "
        "not have it at hand. " + _NAMED + " Write the question and nothing else.",
        "Somebody is being examined on the text. Write the next question for them. " + _NAMED
        + " Write the question and nothing else.",
    ),
    "use_case": (
        "Think of somebody who needs what the text says for their work, and of what they want to "
        "get done. Write the question that they would ask an assistant who knows the text. "
        "Write the question and nothing else.",
    ),
    "creative": (
        "The text gives you an idea for an imaginative conversation. Write the question with which "
        "you begin it. Write the question and nothing else.",
    ),
}  # fmt: skip


def system_prompt(chunk: str) -> str:
    """What both bots are told of a chunk of the corpus.

    Args:
        chunk: its text.
    """
    return _SYSTEM.format(chunk=chunk)


def seed_prompt(kind: str, chance: Random) -> str:
    """What makes bot A write a question.

    Args:
        kind: one of KINDS.
        chance: by which one of its wordings is taken.
    """
    text = chance.choice(_SEEDS[kind])
    return text.replace("{format}", chance.choice(_FORMATS))


__all__ = ["KINDS", "seed_prompt", "system_prompt"]
