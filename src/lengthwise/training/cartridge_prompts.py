"""What the two bots of self-study are told: five kinds of question about a chunk of the corpus.

The kinds are those of the authors' code: structuring, summarization, question, use_case, creative.
The words are ours.
"""

from __future__ import annotations

from random import Random

KINDS = ("structuring", "summarization", "question", "use_case", "creative")

_SYSTEM = """\
You talk about the text below. It is part of a longer one. Answer directly, and do not mention that
you were given a text.

<text>
{chunk}
</text>
"""
_NAMED = "Name the person, place or thing you mean, so that it is clear without the text."
_ONLY = "Write only the question."
_FORMATS = ("JSON", "YAML", "TOML", "INI", "XML", "a plain list")
_SEEDS: dict[str, tuple[str, ...]] = {
    "structuring": (
        f"Ask for what the text says about one subject as {{format}}. {_NAMED} {_ONLY}",
        f"Ask for all names, dates and numbers of one part of the text as {{format}}. {_NAMED} "
        f"{_ONLY}",
    ),
    "summarization": (
        f"Ask for a summary of one section of the text. {_NAMED} {_ONLY}",
        f"Ask for a short summary of what the text says about one subject. {_NAMED} {_ONLY}",
    ),
    "question": (
        f"Ask one question about a fact in the text. {_NAMED} {_ONLY}",
        f"Ask one question that only somebody who has read the text can answer. {_NAMED} {_ONLY}",
        f"You examine somebody about the text. Ask your next question. {_NAMED} {_ONLY}",
    ),
    "use_case": (
        "You need what the text says to get something done. Ask for what you need to know. "
        f"{_NAMED} {_ONLY}",
    ),
    "creative": (
        f"Ask something imaginative about somebody or something in the text. {_NAMED} {_ONLY}",
    ),
}


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
