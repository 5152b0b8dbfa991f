"""A new tokenizer with the special tokens and the chat template that a model was trained on.

What a model knows of turns and ends it knows by its own marks. So the new tokenizer is given those
that it lacks, behind its own tokens; beginning, end and padding are the model's; what the model's
tokenizer puts around a text is put around it again, and no more.
"""

from __future__ import annotations

import copy
import json
from typing import Any

from tokenizers import AddedToken, Tokenizer
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from lengthwise.errors import TokenizerError

ROLES = ("bos_token", "eos_token", "pad_token", "unk_token")
_TEMPLATE = "TemplateProcessing"


def dressed(
    new: PreTrainedTokenizerBase, own: PreTrainedTokenizerBase, specials: str = "model"
) -> PreTrainedTokenizerFast:
    """The new tokenizer as the model is to have it; neither of the two is changed.

    Args:
        new: cuts texts.
        own: the model's, with its special tokens and its chat template.
        specials: "model" adds those of the model; "new" leaves the new tokenizer's as they are, and
            takes the model's chat template if it has none.

    Raises:
        TokenizerError: where there would be no end token, or a tokenizer is no fast one.
    """
    backend = backend_of(new, "the new tokenizer")
    roles = _roles(new)
    if specials == "model":
        marked = {each.content for each in backend.get_added_tokens_decoder().values()}
        for each in marks_of(own):
            if each.content not in marked:
                backend.add_tokens([each])
        backend = around_as(backend, backend_of(own, "the model's tokenizer"))
        # What stands for the unknown belongs to the way texts are cut.
        roles |= {role: token for role, token in _roles(own).items() if role != "unk_token"}
    if "eos_token" not in roles:
        whose = "neither tokenizer has an" if specials == "model" else "the new tokenizer has no"
        raise TokenizerError(
            f"{whose} end token, so the model could not stop: name one as eos_token in the new "
            "tokenizer's tokenizer_config.json"
        )
    template = new.chat_template if specials == "new" and new.chat_template else own.chat_template
    made = PreTrainedTokenizerFast(
        tokenizer_object=backend, clean_up_tokenization_spaces=False,
        model_max_length=own.model_max_length, padding_side=own.padding_side, **roles,
    )  # fmt: skip
    made.chat_template = copy.deepcopy(template)
    return made


def backend_of(tokenizer: PreTrainedTokenizerBase, which: str = "the tokenizer") -> Tokenizer:
    """A copy of what a tokenizer cuts with, which neither shortens nor fills up a text.

    Args:
        tokenizer: a fast one.
        which: it is, for the refusal.

    Raises:
        TokenizerError: for a slow one.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if not isinstance(backend, Tokenizer):
        raise TokenizerError(
            f"{which} is of class {type(tokenizer).__name__}, which is no fast one: load the fast "
            "one (AutoTokenizer.from_pretrained), or save it as a tokenizer.json"
        )
    copied = Tokenizer.from_str(backend.to_str())
    # A call with truncation=True or padding=True leaves both switched on.
    copied.no_truncation()
    copied.no_padding()
    return copied


def marks_of(tokenizer: PreTrainedTokenizerBase) -> list[AddedToken]:
    """Special tokens in the order of their ids, and what its chat template writes as one token.

    Each strips the spaces beside it, and is special, as it is in its tokenizer. It is looked for in
    the text as written: another tokenizer normalises otherwise.

    Args:
        tokenizer: a fast one.
    """
    template = str(tokenizer.chat_template or "")
    added = sorted(tokenizer.backend_tokenizer.get_added_tokens_decoder().items())
    roles = set(_roles(tokenizer).values())
    found = [
        AddedToken(
            each.content, single_word=each.single_word, lstrip=each.lstrip, rstrip=each.rstrip,
            normalized=False, special=each.special or each.content in roles,
        )
        for _, each in added
        if each.special or each.content in roles
        or (each.content.strip() and each.content in template)
    ]  # fmt: skip
    known = {each.content for each in found}
    vocabulary = tokenizer.get_vocab()
    return found + [
        AddedToken(each, special=True, normalized=False)
        for each in sorted(roles - known)
        if each in vocabulary
    ]


def _roles(tokenizer: PreTrainedTokenizerBase) -> dict[str, str]:
    found = {role: getattr(tokenizer, role, None) for role in ROLES}
    return {role: str(token) for role, token in found.items() if token}


def around_as(new: Tokenizer, own: Tokenizer) -> Tokenizer:
    """The new tokenizer, putting around a text what the model's own does.

    Args:
        new: with all special tokens of the other.
        own: the model's.
    """
    table = json.loads(new.to_str())
    template = _template(json.loads(own.to_str())["post_processor"])
    kept = [each for each in _parts(table["post_processor"]) if each["type"] == "ByteLevel"]
    if template is not None:
        template = copy.deepcopy(template)
        for name, each in template["special_tokens"].items():
            each["ids"] = [new.token_to_id(token) for token in each["tokens"]]
            if None in each["ids"]:
                raise TokenizerError(f"the model's tokenizer begins texts with {name}, which is no "
                                     "token of it: mend its tokenizer.json")  # fmt: skip
        kept.append(template)
    table["post_processor"] = (
        {"type": "Sequence", "processors": kept} if len(kept) > 1 else kept[0] if kept else None
    )
    made = Tokenizer.from_str(json.dumps(table))
    if made.get_vocab() != new.get_vocab():
        raise TokenizerError(
            "the new tokenizer's ids have gaps that its file cannot say: number its added tokens "
            "behind the last word of its model"
        )
    return made


def _parts(processor: Any) -> list[dict[str, Any]]:
    if processor is None:
        return []
    if processor["type"] == "Sequence":
        return [part for each in processor["processors"] for part in _parts(each)]
    return [processor]


def _template(processor: Any) -> dict[str, Any] | None:
    return next((each for each in _parts(processor) if each["type"] == _TEMPLATE), None)


__all__ = ["ROLES", "around_as", "backend_of", "dressed", "marks_of"]
