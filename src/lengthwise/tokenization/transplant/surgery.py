"""Another tokenizer for a model: rows that both have are copied, the others made.

What stands in both vocabularies, by its bytes, keeps its very row, in the input embeddings and,
where they are not the same, in the output embeddings. Rows for the other tokens are made by a
method. The matrix is padded to a multiple of 128. A row of padding is the mean of the old ones: its
logit is the mean of all logits, so that it never has more probability than a token has on average.
Where the old matrix had padding, that is kept.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from lengthwise.errors import LengthwiseError, TokenizerError
from lengthwise.tokenization.token_bytes import ByteVocabulary, byte_vocabulary
from lengthwise.tokenization.trainers.kind import Told
from lengthwise.tokenization.transplant.dressing import dressed
from lengthwise.tokenization.transplant.matching import Moves, matched, moved, renumber
from lengthwise.tokenization.transplant.mean import Mean
from lengthwise.tokenization.transplant.method import Donor, Transplant, silent
from lengthwise.tokenization.transplant.pieces import Pieces

MULTIPLE = 128


@dataclass(frozen=True)
class Transplanted:
    """A model with another tokenizer.

    model: the one that was given, changed. tokens: of its vocabulary. before: of the old one. rows:
    of the matrix. copied: tokens whose row was there. made: tokens whose row is new. unknown: those
    of them that the old tokenizer cannot spell. strange: special tokens that the model does not
    know; their row is the mean of all. moves: where old tokens are now. gone: settings of the model
    whose tokens are no more. partly: those that lost some of them.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    tokens: int
    before: int
    rows: int
    copied: int
    made: int
    unknown: int
    strange: int
    moves: Moves
    gone: list[str] = field(default_factory=list)
    partly: list[str] = field(default_factory=list)


def transplant(
    model: PreTrainedModel, own: PreTrainedTokenizerBase, new: PreTrainedTokenizerBase,
    by: Transplant | None = None, *, specials: str = "model", multiple: int = MULTIPLE,
    told: Told = silent,
) -> Transplanted:  # fmt: skip
    """Gives a model the new tokenizer. The model is changed in place.

    Args:
        model: a causal language model of transformers, with weights as they come.
        own: its tokenizer, a fast one.
        new: the tokenizer that it is to have, a fast one.
        by: how rows are made; None is `mean`.
        specials: see `dressed`.
        multiple: what the rows of the matrix are a multiple of.
        told: called with progress.

    Raises:
        TokenizerError: a model or tokenizer that this cannot be done with.
    """
    by = by or Mean()
    refuse(model)
    by.check()
    old = spelled(own, "the model's tokenizer")
    made = dressed(new, own, specials)
    words = spelled(made, "the new tokenizer")
    matrices = matrices_of(model)
    rows = len(matrices[0])
    found = matched(own, old, made, words, rows)
    wanted = [n for n, data in enumerate(words.spelled) if data and n not in found]
    donor = donor_of(matrices, Pieces(own, old), old, [words.spelled[n] or b"" for n in wanted])
    fresh = by.rows(donor, told) if wanted else tuple(each[:0] for each in donor.matrices)
    tokens = len(made)
    count = -(-max(tokens, len(words.spelled)) // multiple) * multiple
    filled = [
        _filled(matrix, found, wanted, new_rows, count, len(old.spelled))
        for matrix, new_rows in zip(matrices, fresh, strict=True)
    ]
    moves = moved(found, own, made)
    lost = _replace(model, filled, moves)
    return Transplanted(
        model, made, tokens, len(own), count, len(found), len(wanted),
        sum(not each for each in donor.pieces),
        len(set(made.get_vocab().values()) - found.keys() - set(wanted)), moves,
        sorted({name for name, left in lost if not left}),
        sorted({name for name, left in lost if left}),
    )  # fmt: skip


def refuse(model: PreTrainedModel) -> None:
    """Raises TokenizerError for a model that cannot be given other embeddings.

    Args:
        model: of transformers.
    """
    quantised = getattr(model, "is_quantized", False) or any(
        not each.is_floating_point() for each in model.parameters()
    )
    if quantised or getattr(model.config, "quantization_config", None):
        raise TokenizerError(
            "the model's weights are quantised, and rows can be added to plain ones alone: take "
            "the model that it was made of, or save it unpacked (model.dequantize(), then "
            "save_pretrained), and quantise the result"
        )
    with torch.device("meta"):
        plain = type(model)(copy.deepcopy(model.config)).state_dict().keys()
    if odd := sorted(plain ^ model.state_dict().keys()):
        raise TokenizerError(
            f"{odd[0]} is a weight of the model or of its configuration, and not of both, so what "
            "is saved could not be loaded: merge an adapter (merge_and_unload) and save that, or "
            "take the model without it"
        )
    inner, outer = model.get_input_embeddings(), model.get_output_embeddings()
    if not isinstance(inner, nn.Embedding) or not isinstance(outer, nn.Linear):
        have = ", ".join(type(each).__name__ for each in (inner, outer))
        raise TokenizerError(
            "a model with an nn.Embedding and an nn.Linear for its head can have another "
            f"tokenizer, and this one has {have}; take a causal language model without wrappers"
        )
    own = {id(each) for each in (inner.weight, outer.weight, outer.bias)}
    rows = inner.weight.shape[0]
    for name, each in model.named_parameters():
        if id(each) not in own and each.ndim > 1 and each.shape[0] == rows and rows > _FEW:
            raise TokenizerError(
                f"{name} has a row for each token, too, and nothing here knows what it is: a model "
                "with embeddings in its layers cannot have another tokenizer"
            )


# A matrix of as many rows as there are tokens is one of tokens, unless they are few.
_FEW = 4096


def spelled(tokenizer: PreTrainedTokenizerBase, which: str) -> ByteVocabulary:
    """The bytes of a tokenizer's tokens.

    Args:
        tokenizer: a fast one.
        which: it is, for the refusal.

    Raises:
        TokenizerError: where they cannot be told.
    """
    try:
        return byte_vocabulary(tokenizer)
    except LengthwiseError as error:
        raise TokenizerError(f"{which}: {error}") from error


def matrices_of(model: PreTrainedModel) -> tuple[Tensor, ...]:
    """Input embeddings, and where they are not the same, output embeddings and their bias.

    Args:
        model: that `refuse` lets pass.

    Returns:
        Each `[rows, width]`, in the model's dtype.
    """
    inner: Any = model.get_input_embeddings()
    outer: Any = model.get_output_embeddings()
    found = [inner.weight.detach()]
    if outer.weight is not inner.weight:
        found.append(outer.weight.detach())
    if outer.bias is not None:
        found.append(outer.bias.detach().unsqueeze(1))
    return tuple(each.cpu() for each in found)


def donor_of(
    matrices: Seq[Tensor], pieces: Pieces, old: ByteVocabulary, wanted: Seq[bytes]
) -> Donor:
    """What a method is given.

    Args:
        matrices: of `matrices_of`.
        pieces: cuts bytes by the old tokenizer.
        old: the bytes of its tokens.
        wanted: the bytes of the tokens that need rows.
    """
    rows = len(matrices[0])
    spelt = (*old.spelled[:rows], *[None] * (rows - len(old.spelled)))
    cuts = [pieces.cut(each) for each in wanted]
    return Donor(
        tuple(each.float() for each in matrices), spelt, tuple(wanted),
        tuple(each if all(n < rows for n in each) else () for each in cuts),
    )  # fmt: skip


def _filled(
    matrix: Tensor, found: dict[int, int], wanted: Seq[int], fresh: Tensor, count: int, known: int
) -> Tensor:
    """The new matrix. known: tokens of the old vocabulary; rows of the old matrix beyond are its
    padding."""
    filled = matrix.float().mean(0).to(matrix.dtype).repeat(count, 1)
    if (kept := min(len(matrix), count)) > known:
        filled[known:kept] = matrix[known:kept]
    if found:
        filled[list(found)] = matrix[list(found.values())]
    if wanted:
        filled[list(wanted)] = fresh.to(matrix.dtype)
    return filled


@torch.no_grad()
def _replace(model: PreTrainedModel, filled: Seq[Tensor], moves: Moves) -> list[tuple[str, bool]]:
    """Puts matrices into a model, and new ids into its settings; those that lost tokens."""
    inner: Any = model.get_input_embeddings()
    # Resizing forgets which row is padding and gets no gradient.
    padded = inner.padding_idx is not None
    model.resize_token_embeddings(len(filled[0]), mean_resizing=False)
    inner = model.get_input_embeddings()
    outer: Any = model.get_output_embeddings()
    rest = list(filled)
    inner.weight.copy_(rest.pop(0))
    if outer.weight is not inner.weight:
        outer.weight.copy_(rest.pop(0))
    if outer.bias is not None:
        outer.bias.copy_(rest.pop(0).squeeze(1))
    lost = [item for config in _configs(model) for item in renumber(config, moves).items()]
    inner.padding_idx = model.config.get_text_config().pad_token_id if padded else None
    return lost


def _configs(model: PreTrainedModel) -> list[Any]:
    text = model.config.get_text_config()
    found = [model.config] if text is model.config else [model.config, text]
    generation = getattr(model, "generation_config", None)
    return found if generation is None else [*found, generation]


__all__ = [
    "MULTIPLE", "Transplanted", "donor_of", "matrices_of", "refuse", "spelled", "transplant",
]  # fmt: skip
