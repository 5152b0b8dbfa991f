"""The prompts of a drafting suite, with their tokens: the seven kinds of work, or a user's own.

Turns of a conversation follow on answers of plain decoding, written once before anything is timed,
so that every recipe continues the same conversation; each turn is then a prompt by itself.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq

from lengthwise.api.model import Model
from lengthwise.documents.prompt_files import OWN, Conversation
from lengthwise.engine.sampling import Sampling
from lengthwise.errors import LengthwiseError
from lengthwise.evaluation.tasks import work
from lengthwise.evaluation.tasks.work import Message, Messages, WorkPrompt

Suite = dict[tuple[str, str], list[tuple[WorkPrompt, list[int]]]]


def encode(model: Model, messages: Messages) -> list[int]:
    """Token ids of messages; of their texts one below the other where there is no chat template."""
    if getattr(model.tokenizer, "chat_template", None):
        return model.encode(messages)
    text = "\n\n".join(message["content"] for message in messages)
    return model.encode(text if messages[-1]["role"] == "assistant" else text + "\n\n")


def kinds_suite(
    model: Model, kinds: Seq[str], contexts: Seq[str], count: int, new_tokens: int
) -> Suite:
    """The first `count` prompts of each kind of work at each context."""
    found = {}
    for context in contexts:
        length = work.CONTEXTS[context]
        if length + new_tokens > model.trained_length:
            raise LengthwiseError(
                f"{context} prompts and their answers are {length + new_tokens:,} tokens long and "
                f"{model.name} was trained to read {model.trained_length:,}: give a shorter "
                "--context or fewer --new-tokens"
            )
        for kind in kinds:
            made = work.prompts(kind, length, count, lambda m: len(encode(model, m)))
            found[context, kind] = [(each, encode(model, each.messages)) for each in made]
    return found


def own_suite(
    model: Model, asked: Seq[Conversation], kinds: Seq[str], count: int | None, new_tokens: int,
    sampling: Sampling,
) -> Suite:  # fmt: skip
    """The first `count` conversations of each kind (None: all), every turn a prompt of its own."""
    known = list(dict.fromkeys(each.kind for each in asked))
    unknown = next((kind for kind in kinds if kind not in known), None)
    if unknown is not None:
        raise LengthwiseError(
            f"no prompt of the file is of kind {unknown!r}; there are {', '.join(known)}"
        )
    found: Suite = {}
    for kind in kinds or known:
        mine = [each for each in asked if each.kind == kind][:count]
        found[OWN, kind] = [turn for each in mine for turn in _turns(model, each, new_tokens,
                                                                     sampling)]  # fmt: skip
    return found


def _turns(
    model: Model, asked: Conversation, new_tokens: int, sampling: Sampling
) -> list[tuple[WorkPrompt, list[int]]]:
    """Every turn of a conversation with all that was said before it."""
    said: list[Message] = list(asked.before)
    found = []
    for number, turn in enumerate(asked.turns, 1):
        said.append({"role": "user", "content": turn})
        name = asked.name if len(asked.turns) == 1 else f"{asked.name}, turn {number}"
        each = WorkPrompt(asked.kind, name, tuple(said))
        ids = encode(model, each.messages)
        if len(ids) + new_tokens > model.trained_length:
            raise LengthwiseError(
                f"prompt {each.kind}/{name} and its answer are {len(ids) + new_tokens:,} tokens "
                f"long and {model.name} was trained to read {model.trained_length:,}: leave it "
                "out or give fewer --new-tokens"
            )
        found.append((each, ids))
        if number < len(asked.turns):
            answer = model.generate(
                ids, max_new_tokens=new_tokens, temperature=sampling.temperature,
                seed=sampling.seed,
            )  # fmt: skip
            said.append({"role": "assistant", "content": answer.text})
    return found
