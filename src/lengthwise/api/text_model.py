"""A model of ours as prompting methods see it: text in, text and probabilities out, all counted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lengthwise.api.document_prompt import build_prompt
from lengthwise.api.held_model import HeldModel
from lengthwise.engine import loop
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.losses import Losses
from lengthwise.engine.plan import FULL, Plan
from lengthwise.engine.sampling import Sampling
from lengthwise.tokenization.detokenise import TextStream, whole_characters

GREEDY = Sampling()


class LocalText:
    """A `methods.prompts.LogitModel` of a held model. tokens_read: in all forwards so far.

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

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Where each token of a text stands in it.

        Args:
            text: any.
        """
        if getattr(self._tokenizer, "is_fast", False):
            given = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True,
                                    split_special_tokens=True, verbose=False)  # fmt: skip
            return [(int(start), int(end)) for start, end in given["offset_mapping"]]
        # One without offsets: a token ends where the text of all before it does.
        found, start = [], 0
        ids = self._tokenizer.encode(text, add_special_tokens=False)
        for number in range(1, len(ids) + 1):
            end = min(len(self._tokenizer.decode(ids[:number])), len(text))
            found.append((start, max(start, end)))
            start = max(start, end)
        return found

    def count(self, text: str) -> int:
        """Tokens of a text.

        Args:
            text: any.
        """
        return len(self.spans(text))

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


__all__ = ["LocalText"]
