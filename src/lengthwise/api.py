"""The Python face: load or wrap a model, then generate, score and check under any recipe.

model = lengthwise.load()
print(model.generate("Once", recipe="yarn(factor=2) + lookup", max_new_tokens=64).text)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence as Seq
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lengthwise import recipes
from lengthwise.batch import Asked, Row, Written, write
from lengthwise.engine import loop
from lengthwise.engine.losses import Losses
from lengthwise.engine.plan import Plan
from lengthwise.engine.request import Ledger, Request
from lengthwise.engine.sampling import Sampling
from lengthwise.engine.sequence import Sequence
from lengthwise.errors import LengthwiseError, Refused
from lengthwise.models.adapt import Adapted, adapt
from lengthwise.models.limits import require_positions
from lengthwise.models.load import Provenance, load_pretrained
from lengthwise.models.obstacles import no_autocast
from lengthwise.prompts import SPECIAL, Prompt, encode_messages, encode_text, given_ids
from lengthwise.text import TextStream

if TYPE_CHECKING:
    from lengthwise.models.check import Support


@dataclass(frozen=True)
class Draft:
    """One of several texts of a request. score: mean log score of its tokens, higher is better."""

    text: str
    token_ids: list[int]
    score: float


@dataclass(frozen=True)
class Generation:
    """What came out of one request: its text, its token ids (stop tokens left out), its costs.

    drafts: the texts of a recipe that writes several, best first, no two alike; `text` is the first
    of them. Empty for all other recipes. refused: why the recipe cannot serve this row of a batch,
    which was then not read at all; None where it can.
    """

    text: str
    token_ids: list[int]
    ledger: Ledger
    drafts: tuple[Draft, ...] = ()
    refused: Refused | None = None

    @property
    def alternatives(self) -> list[str]:
        """The texts of drafts."""
        return [draft.text for draft in self.drafts]


class Model:
    """A causal language model adapted, with its tokenizer. Made by `load` or `wrap`.

    The underlying transformers model is untouched outside our own forwards and can be used as ever;
    leaving the context (or `close`) also undoes the fused weights.
    """

    def __init__(
        self,
        adapted: Adapted,
        tokenizer: PreTrainedTokenizerBase | None,
        provenance: Provenance,
    ) -> None:
        self.adapted = adapted
        self.adapted.tokenizer = self.tokenizer = tokenizer
        self.provenance = provenance

    def __enter__(self) -> Model:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Gives the wrapped model back as it was."""
        self.adapted.release()

    @property
    def name(self) -> str:
        return self.provenance.name

    @property
    def trained_length(self) -> int:
        """Tokens the model was trained to read at once."""
        return self.adapted.trained_length

    def check(self) -> Support:
        """Which questions this model supports, which are refused, and why."""
        from lengthwise.models.check import check

        return check(self.adapted)

    def plan(self, recipe: Any = "full") -> Plan:
        """The recipe resolved for this model; raises RecipeError or Refused."""
        return recipes.resolve(recipe, self.adapted)

    # Text and tokens.

    def encode(self, prompt: Prompt, special: str | None = None) -> list[int]:
        """Token ids of a prompt.

        prompt: text; chat messages, which go through the chat template (a last one of the
        assistant's is continued); or ids, in a list, a tensor, an array or what a tokenizer
        returned. A text that begins with the text of the beginning token gets no second one.
        special: what special tokens written out in it are, "tokens" or "text". None: tokens in a
        string, as in transformers; text in the contents of messages, so that none can end itself.
        """
        if special is not None and special not in SPECIAL:
            raise LengthwiseError(f"special={special!r}: allowed are {', '.join(SPECIAL)}")
        if isinstance(prompt, str):
            return self._known(encode_text(self._tokenizer(), prompt, special or "tokens"))
        if isinstance(prompt, (list, tuple)) and prompt and isinstance(prompt[0], Mapping):
            return self._known(encode_messages(self._tokenizer(), prompt, special or "text"))
        return self._known(given_ids(prompt))

    def _known(self, ids: list[int]) -> list[int]:
        if not ids:
            raise LengthwiseError("the prompt is empty; give at least one token")
        bad = next((i for i in ids if not 0 <= i < self.adapted.vocab_size), None)
        if bad is not None:
            raise LengthwiseError(
                f"token id {bad} is outside the vocabulary of {self.adapted.vocab_size}"
            )
        return ids

    def _tokenizer(self) -> PreTrainedTokenizerBase:
        if self.tokenizer is None:
            raise LengthwiseError("this model was wrapped without a tokenizer; give token ids")
        return self.tokenizer

    def stop_ids(self) -> list[int]:
        """The ids at which this model stops by itself."""
        found = self.adapted.model.generation_config.eos_token_id
        if found is None and self.tokenizer is not None:
            found = self.tokenizer.eos_token_id
        if found is None:
            return []
        return [found] if isinstance(found, int) else list(found)

    # The main verbs.

    def generate(
        self,
        prompt: Prompt,
        recipe: Any = "full",
        *,
        max_new_tokens: int = 256,
        stream: Callable[[str], None] | None = None,
        stop: Seq[str] = (),
        stop_ids: Seq[int] | None = None,
        chunk: int | None = None,
        progress: loop.Progress | None = None,
        special: str | None = None,
        assistant_model: Any = None,
        **sampling: Any,
    ) -> Generation:
        """Reads the prompt and writes on, greedily unless a temperature is given.

        prompt, special: see `encode`. stream: called with each piece of text as it comes; joined,
        the pieces are the text.
        stop: strings that end the text (left out of it; several texts written at once are cut there
        when they are complete); stop_ids: ids that do, by default the
        model's own. chunk: tokens of a prefill forward. progress: called with tokens read.
        assistant_model: a second model that guesses, a transformers model or one of lengthwise, as
        `model(path=...)` does in a recipe (see `drafting_model`).
        sampling: temperature, top_k, top_p, min_p, repetition_penalty, seed (an integer of 64
        bits). Of the model's generation_config the end tokens hold, and what it suppresses or
        forces (suppress_tokens, begin_suppress_tokens, bad_words_ids, forced_bos_token_id,
        forced_eos_token_id); its temperature, penalties and lengths do not.
        Raises RecipeError, Refused or LengthwiseError before anything runs, and NotFinite where the
        model's logits are no numbers.
        """
        found = self.generate_batch(
            [prompt], recipe, max_new_tokens=max_new_tokens,
            streams=None if stream is None else [stream], stop=stop, stop_ids=stop_ids, chunk=chunk,
            progress=progress, special=special, assistant_model=assistant_model, **sampling,
        )  # fmt: skip
        if found[0].refused is not None:
            raise found[0].refused
        return found[0]

    @no_autocast()
    def generate_batch(
        self,
        prompts: Seq[Prompt],
        recipe: Any = "full",
        *,
        max_new_tokens: int = 256,
        streams: Seq[Callable[[str], None]] | None = None,
        stop: Seq[str] = (),
        stop_ids: Seq[int] | None = None,
        chunk: int | None = None,
        progress: loop.Progress | None = None,
        special: str | None = None,
        assistant_model: Any = None,
        **sampling: Any,
    ) -> list[Generation]:
        """Several prompts at once; each gets what it would get alone, its noise included.

        A row that the recipe cannot serve is not read, says so in `refused`, and leaves the others
        as they are.
        """
        choice = Sampling.of(sampling)
        if streams is not None and len(streams) != len(prompts):
            raise LengthwiseError(
                f"{len(streams)} streams for {len(prompts)} prompts: give one each"
            )
        if assistant_model is not None:
            recipe = recipes.assisted(recipe, assistant_model)
        stops = self.stop_ids() if stop_ids is None else stop_ids
        asked = Asked(self.plan(recipe), max_new_tokens, stops, stop, chunk, progress)
        rows = [
            Row(self.encode(prompt, special), choice, None if streams is None else streams[index])
            for index, prompt in enumerate(prompts)
        ]
        return [
            self._generation(row, done, stop)
            for row, done in zip(
                rows, write(self.adapted, self.tokenizer, rows, asked), strict=True
            )
        ]

    def _generation(self, row: Row, done: Written | Refused, stop: Seq[str]) -> Generation:
        if isinstance(done, Refused):
            ledger = Ledger(prompt_tokens=len(row.tokens), finish_reason="refused")
            return Generation("", [], ledger, refused=done)
        request = done.request
        return Generation(done.text, request.output, request.ledger, self._drafts(request, stop))

    def _drafts(self, request: Request, stop: Seq[str]) -> tuple[Draft, ...]:
        """The texts of a request that wrote several, up to a stop string, those alike left out."""
        found: dict[object, Draft] = {}
        for each in request.mode.alternatives() if request.mode is not None else ():
            text = TextStream(self.tokenizer, stop)
            text.add(each.tokens, Ledger())
            draft = Draft(text.finish(), each.tokens, each.score)
            alike = tuple(each.tokens) if self.tokenizer is None else draft.text
            found.setdefault(alike, draft)
        return tuple(found.values())

    @no_autocast()
    def score(
        self, ids: Seq[int] | Tensor, recipe: Any = "full", *, prompt: int | None = None,
        chunk: int | None = None, block: int = 1,
    ) -> Tensor:  # fmt: skip
        """Log-probabilities of given tokens under a recipe, float32; minus infinity where the
        model gives a token no chance. Raises NotFinite where its logits are no numbers.

        prompt None: all are read as a prompt; returns `[n - 1]`, of every token but the first.
        prompt p: the first p are the prompt (so retention and codecs act at its end) and the rest
        is fed as decoding would, `block` tokens a forward; returns `[n - p]`.
        """
        tokens = self.encode(ids)
        if len(tokens) < 2:
            raise LengthwiseError("score needs at least two tokens")
        require_positions(self.adapted, len(tokens))
        plan = self.plan(recipe)
        plan.check_prompt(len(tokens) if prompt is None else prompt)
        sequence = Sequence(self.adapted, plan, expected=len(tokens))
        if prompt is None:
            losses = Losses()
            loop.prefill(sequence, tokens, chunk or loop.CHUNK, losses=losses)
            return -torch.tensor(losses.values, dtype=torch.float32)
        if not 0 < prompt < len(tokens):
            raise LengthwiseError(f"prompt={prompt}: allowed is 1 to {len(tokens) - 1}")
        loop.prefill(sequence, tokens[:prompt], chunk or loop.CHUNK)
        sequence.end_prefill()
        rest = tokens[prompt:]
        logits = loop.teacher_force(sequence, rest, block).float()
        targets = torch.tensor(rest, device=logits.device)[:, None]
        return torch.log_softmax(logits, -1).gather(1, targets)[:, 0].cpu()


def load(
    name: str | None = None,
    dtype: str | torch.dtype | None = None,
    device: str | torch.device | None = None,
) -> Model:
    """Loads and adapts a model: None is the embedded SmolLM2-135M-Instruct; else a local folder, a
    GGUF file or a hub name. dtype None is what the machine is fast at. Raises ModelError."""
    model, tokenizer, provenance = load_pretrained(name, dtype, device)
    return Model(adapt(model, tokenizer=tokenizer), tokenizer, provenance)


def wrap(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None = None, fuse: bool = True
) -> Model:
    """Adapts a model the user already holds; a context manager that gives it back as it was.

    model: as transformers gives it, or in a wrapper of torch.compile, DataParallel or peft. What
    is done to it later (weights, hooks, adapters) shows at the next request. Raises
    UnsupportedModel.
    fuse: let Llama-shaped families run leaner. In bf16 on a CPU that holds a packed copy of the
    weights beside the model's own; False saves that memory.
    """
    adapted = adapt(model, fuse, tokenizer=tokenizer)
    name = str(getattr(adapted.model.config, "_name_or_path", "") or adapted.family)
    provenance = Provenance(name, adapted.dtype, adapted.device, "wrapped", adapted.trained_length)
    return Model(adapted, tokenizer, provenance)


def check(model: Model | PreTrainedModel) -> Support:
    """Which questions a model supports exactly, which are refused, and why."""
    return model.check() if isinstance(model, Model) else wrap(model).check()
