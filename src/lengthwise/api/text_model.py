"""A model of ours as prompting methods see it: text in, text and probabilities out, all counted."""

from __future__ import annotations

from collections.abc import Callable, Sequence as Seq
from typing import Any

import torch
from torch import Tensor

from lengthwise.api.document_prompt import build_prompt
from lengthwise.api.held_model import HeldModel
from lengthwise.api.tokenizer_text import count_tokens
from lengthwise.engine import loop
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.losses import Losses
from lengthwise.engine.plan import FULL, Plan
from lengthwise.engine.regarding import regard
from lengthwise.engine.sampling import Sampling
from lengthwise.methods.prompts import Regard
from lengthwise.tokenization.detokenise import TextStream, whole_characters
from lengthwise.tokenization.spans import token_spans

GREEDY = Sampling()


class LocalText:
    """A `methods.prompts.LogitModel`, `AttentionModel` and `TokenModel` of a held model.

    tokens_read: in all forwards so far.

    Text stands in the same prompt in which the document will stand. It is read by full attention,
    or under a plan that is given. What it writes is greedy, unless another `sampling` is given.
    """

    def __init__(
        self, model: HeldModel, plan: Plan = FULL, chunk: int | None = None,
        sampling: Sampling = GREEDY,
    ) -> None:  # fmt: skip
        self.model, self.plan, self.chunk, self.sampling = model, plan, chunk, sampling
        self.tokens_read = 0
        self._tokenizer: Any = model._tokenizer()

    @property
    def name(self) -> str:
        """What the model is called."""
        return self.model.name

    @property
    def trained_length(self) -> int:
        """Tokens that it was trained to read."""
        return self.model.trained_length

    @property
    def tokenizer(self) -> Any:
        """Of the model, by which it counts."""
        return self._tokenizer

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Where each token of a text stands in it.

        Args:
            text: any.
        """
        return token_spans(self._tokenizer, text)

    def count(self, text: str) -> int:
        """Tokens of a text, as `count_tokens` has them.

        Args:
            text: any.
        """
        return count_tokens(self._tokenizer, text)

    def ids(self, text: str) -> list[int]:
        """The tokens of a text, those of `spans`.

        Args:
            text: any.
        """
        found: list[int] = self._tokenizer.encode(
            text, add_special_tokens=False, split_special_tokens=True, verbose=False
        )
        return found

    def begin(self, question: str, cue: str) -> LocalSteps:
        """Its answer to a question without a document, which begins with a cue.

        Args:
            question: what is asked.
            cue: what the answer begins with.
        """
        tokens = [*self._alone(question), *self.ids(cue)]
        sequence = self._sequence(tokens)
        logits = loop.prefill(sequence, tokens, self.chunk)
        sequence.end_prefill()
        return LocalSteps(self, sequence, logits)

    def write(
        self, text: str, question: str, max_new_tokens: int,
        stream: Callable[[str], None] | None = None,
    ) -> str:  # fmt: skip
        """Its answer to a question about a text.

        Args:
            text: that is asked about; "" leaves the question alone in its prompt.
            question: what is asked.
            max_new_tokens: at most.
            stream: called with each piece of the answer as it comes.
        """
        sequence, logits = self._read(text, question)
        request = loop.begin(sequence, self.sampling, max_new_tokens, self.model.stop_ids())
        said = TextStream(self._tokenizer, sink=stream)
        said.add(loop.start(request, logits), request.metrics)
        for tokens in loop.run(request):
            said.add(tokens, request.metrics)
        loop.finish(request)
        found = said.finish()
        return whole_characters(self.model.tokenizer, request.output, found).strip()

    def foretell(self, text: str, question: str, tokens: int, plain: bool = False) -> Tensor:
        """Log probabilities `[tokens, vocab]` of the first tokens of its greedy answer.

        Args:
            text: that is asked about.
            question: what is asked.
            tokens: how many, at least 1.
            plain: the question follows the text on a line of its own, without the template.
        """
        sequence, logits = self._read(text, question, plain)
        found = [logits]
        if tokens > 1:
            sequence.end_prefill()
        for _ in range(tokens - 1):
            loop.teacher_force(sequence, [int(found[-1].argmax())])
            assert sequence.last_logits is not None
            found.append(sequence.last_logits)
        return torch.log_softmax(torch.stack([each.float() for each in found]), -1).cpu()

    def losses(self, text: str) -> Tensor:
        """Loss of each token of a text, nats.

        Args:
            text: any.
        """
        ids = self._tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
        if len(ids) < 2:
            return torch.zeros(len(ids))
        read = Losses()
        loop.prefill(self._sequence(ids), ids, self.chunk, losses=read)
        return torch.tensor([0.0, *read.values])

    def regard(self, text: str, question: str, depth: float = 1.0) -> Regard:
        """What a question behind a text attends to, in one layer that sees all of it.

        Args:
            text: that is asked about, not empty.
            question: what is asked.
            depth: share of the layers, from the first on, of which it is the deepest.

        Returns:
            A row a token behind the text, the template's included, a column a token of `spans`.

        Raises:
            Refused: where none of these layers sees the whole text.
        """
        prompt = build_prompt(self.model, self.model.encode(text, special="text"), [question])
        (behind,) = prompt.suffixes
        self.tokens_read += len(prompt.prefix) + len(behind)
        found = regard(self.model.adapted, prompt.prefix, behind, depth)
        own = len(prompt.prefix)
        return Regard(found[:, own - len(self.spans(text)) : own], found[:, own:].sum(1))

    def _read(self, text: str, question: str, plain: bool = False) -> tuple[Sequence, Tensor]:
        if plain:
            tokens = self.model.encode(f"{text.rstrip()}\n{question}", special="text")
        elif not text:
            tokens = self._alone(question)
        else:
            ids = self.model.encode(text, special="text")
            prompt = build_prompt(self.model, ids, [question])
            tokens = [*prompt.prefix, *prompt.suffixes[0]]
        sequence = self._sequence(tokens)
        return sequence, loop.prefill(sequence, tokens, self.chunk)

    def _alone(self, question: str) -> list[int]:
        """Tokens of a question without a document."""
        if getattr(self._tokenizer, "chat_template", None):
            return self.model.encode([{"role": "user", "content": question}])
        return self.model.encode(question, special="text")

    def _sequence(self, tokens: list[int]) -> Sequence:
        self.plan.check_prompt(len(tokens))
        self.tokens_read += len(tokens)
        return Sequence(self.model.adapted, self.plan, expected=len(tokens))


# What was read behind the tokens that were written, and the logits after it.
_Written = dict[tuple[int, ...], tuple[Sequence, Tensor]]


class LocalSteps:
    """A `methods.prompts.Steps`: what is begun alike is read once, in forks of one sequence."""

    def __init__(self, reader: LocalText, sequence: Sequence, logits: Tensor) -> None:
        self._reader = reader
        self._root: _Written = {(): (sequence, logits)}
        self._known = self._root

    def after(self, given: Seq[Seq[int]]) -> Tensor:
        """Log probabilities `[given, vocab]` of the token behind each of some beginnings.

        Args:
            given: ids, which may be none. What the last call was given need not be read again.
        """
        found, wanted = dict(self._root), [tuple(each) for each in given]
        rows: list[tuple[Sequence, Seq[int], None]] = []
        new = [each for each in dict.fromkeys(wanted) if each not in self._known]
        for each in new:
            known = next(n for n in range(len(each) - 1, -1, -1) if each[:n] in self._known)
            rows.append((self._known[each[:known]][0].branch(), each[known:], None))
        logits, steps = loop.extend(rows, "last") if rows else ([], [])
        for each, row, after, metadata in zip(new, rows, logits, steps, strict=True):
            row[0].commit(metadata, row[1])
            self._reader.tokens_read += len(row[1])
            found[each] = row[0], after[-1]
        self._known = found | {each: self._known[each] for each in wanted if each in self._known}
        return torch.stack(
            [torch.log_softmax(self._known[each][1].float(), -1) for each in wanted]
        ).cpu()


__all__ = ["LocalSteps", "LocalText"]
