"""What a model writes behind a prompt, as a tree whose nodes have its doubts."""

from __future__ import annotations

import re
from collections.abc import Sequence as Seq
from dataclasses import dataclass

from lengthwise.api.continuations import score_continuations
from lengthwise.api.model import Model
from lengthwise.api.prompts import Prompt
from lengthwise.evaluation.pac.holes import BUDGETS, nested, tree_of
from lengthwise.evaluation.pac.program_tree import ProgramNode, completes, program_of, weigh
from lengthwise.recipes import RecipeLike
from lengthwise.tokenization.token_bytes import byte_vocabulary

NEW_TOKENS = 128
_FENCE = re.compile(r"```[A-Za-z0-9]*\n")


@dataclass(frozen=True)
class Prediction:
    """A program that a model wrote, at temperature 0.

    source: its text, "" where there is no program. program: its tree, each node with its doubt;
    None where there is none, and nothing of it can be kept.
    """

    source: str
    program: ProgramNode | None

    def kept(self, holes: int) -> list[list[bool]]:
        """Of each threshold the nodes that are kept, in preorder; none where there is no program.

        Args:
            holes: at most.
        """
        if self.program is None:
            return [[] for _ in BUDGETS]
        return nested(tree_of(self.program), holes)

    def first_error(self, right: ProgramNode, holes: int) -> int:
        """The first threshold at which a program does not complete this one; their number where it
        always does.

        Args:
            right: the program.
            holes: at most.
        """
        for number, kept in enumerate(self.kept(holes)):
            if self.program is not None and not completes(self.program, right, kept):
                return number
        return len(BUDGETS)


def predict_programs(
    model: Model, prompts: Seq[Prompt], begins: Seq[str], recipe: RecipeLike = "full",
    max_new_tokens: int = NEW_TOKENS, stop: Seq[str] = (),
) -> list[Prediction]:  # fmt: skip
    """What a model writes behind prompts, greedily, and how likely each token was.

    Of a reply in a code block the block is the program. Lines at the end that no program has are
    left out.

    Args:
        model: that writes; its tokenizer must tell the bytes of its tokens.
        prompts: as for `Model.generate`.
        begins: of each, what of the program the prompt ends with.
        recipe: as for `Model.generate`.
        max_new_tokens: at most, of each.
        stop: strings that end a program and are no part of it.

    Raises:
        LengthwiseError: as `Model.generate` does, and for a tokenizer whose bytes are not told.
    """
    vocabulary = byte_vocabulary(model._tokenizer())
    written = model.generate_batch(prompts, recipe, max_new_tokens=max_new_tokens, stop=list(stop))
    replies = [each.require() for each in written]
    pairs = [
        (model.encode(prompt), each.token_ids)
        for prompt, each in zip(prompts, replies, strict=True)
        if each.token_ids
    ]
    scores = iter(score_continuations(model, pairs, recipe))
    found = []
    for begin, each in zip(begins, replies, strict=True):
        logprobs = next(scores).logprobs if each.token_ids else ()
        pieces = [vocabulary.text([token]) for token in each.token_ids]
        # A tokenizer that puts a space in front of a text takes it away again.
        if pieces and pieces[0].startswith(b" ") and not each.text.startswith(" "):
            pieces[0] = pieces[0][1:]
        found.append(_prediction(begin, each.text, pieces, logprobs))
    return found


def _prediction(begin: str, text: str, pieces: Seq[bytes], logprobs: Seq[float]) -> Prediction:
    start = len(begin.encode())
    fence = None if begin else _FENCE.search(text)
    if fence is not None:
        start = -len(text[: fence.end()].encode())
        text = text[fence.end() :].split("```")[0]
    lines = text.splitlines(keepends=True)
    while lines:
        source = begin + "".join(lines)
        program = program_of(source)
        if program is not None:
            weigh(program, pieces, logprobs, start)
            return Prediction(source, program)
        lines.pop()
    return Prediction("", None)


__all__ = ["NEW_TOKENS", "Prediction", "predict_programs"]
