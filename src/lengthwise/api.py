"""The Python face: load or wrap a model, then generate, score and check under any recipe.

model = lengthwise.load()
print(model.generate("Once", recipe="yarn(factor=2) + lookup", max_new_tokens=64).text)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence as Seq
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lengthwise import recipes
from lengthwise.engine import loop
from lengthwise.engine.losses import Losses
from lengthwise.engine.plan import Plan
from lengthwise.engine.request import Ledger, Request
from lengthwise.engine.sampling import Sampling
from lengthwise.engine.sequence import Sequence
from lengthwise.errors import LengthwiseError
from lengthwise.models.adapt import Adapted, adapt
from lengthwise.models.load import Provenance, load_pretrained
from lengthwise.text import TextStream

if TYPE_CHECKING:
    from lengthwise.models.check import Support

Prompt = str | Seq[Mapping[str, str]] | Seq[int] | Tensor


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
    of them. Empty for all other recipes.
    """

    text: str
    token_ids: list[int]
    ledger: Ledger
    drafts: tuple[Draft, ...] = ()

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

    def encode(self, prompt: Prompt) -> list[int]:
        """Token ids of text, of chat messages (through the chat template; a last one of the
        assistant's is continued), or of ids."""
        if isinstance(prompt, Tensor):
            ids = prompt.squeeze(0) if prompt.dim() == 2 and len(prompt) == 1 else prompt
            if ids.dim() != 1:
                raise LengthwiseError(
                    f"prompt ids have shape {tuple(prompt.shape)}; give [n] or [1, n], and several "
                    "prompts to generate_batch"
                )
            return self._known([int(i) for i in ids.tolist()])
        if isinstance(prompt, str):
            return self._known(list(self._tokenizer().encode(prompt)))
        if prompt and isinstance(prompt[0], Mapping):
            # An answer that has been begun is gone on with.
            begun = prompt[-1]["role"] == "assistant"  # type: ignore[index, call-overload]
            rendered = self._tokenizer().apply_chat_template(
                list(prompt), add_generation_prompt=not begun, continue_final_message=begun,
                tokenize=False,
            )  # fmt: skip
            return self._known(list(self._tokenizer().encode(rendered, add_special_tokens=False)))
        return self._known([int(i) for i in prompt])  # type: ignore[call-overload]

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
        **sampling: Any,
    ) -> Generation:
        """Reads the prompt and writes on, greedily unless a temperature is given.

        prompt: text, chat messages or token ids. stream: called with each piece of text as it
        comes.
        stop: strings that end the text (left out of it; several texts written at once are cut there
        when they are complete); stop_ids: ids that do, by default the
        model's own. chunk: tokens of a prefill forward. progress: called with tokens read.
        sampling: temperature, top_k, top_p, min_p, repetition_penalty, seed.
        Raises RecipeError, Refused or LengthwiseError before anything runs.
        """
        found = self.generate_batch(
            [prompt], recipe, max_new_tokens=max_new_tokens,
            streams=None if stream is None else [stream], stop=stop, stop_ids=stop_ids, chunk=chunk,
            progress=progress, **sampling,
        )  # fmt: skip
        return found[0]

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
        **sampling: Any,
    ) -> list[Generation]:
        """Several prompts at once; each gets what it would get alone."""
        if max_new_tokens < 1:
            raise LengthwiseError(f"max_new_tokens={max_new_tokens}: give at least 1")
        plan = self.plan(recipe)
        choice = Sampling(**sampling)
        ids = [self.encode(prompt) for prompt in prompts]
        requests, texts = [], []
        for index, tokens in enumerate(ids):
            sequence = Sequence(self.adapted, plan, expected=len(tokens) + max_new_tokens)
            request = loop.begin(
                sequence, choice, max_new_tokens, self.stop_ids() if stop_ids is None else stop_ids
            )
            begin = time.perf_counter()
            logits = loop.prefill(sequence, tokens, chunk or loop.CHUNK, progress)
            first = loop.start(request, logits)
            loop.synchronize(self.adapted.device)
            request.ledger.ttft_s = time.perf_counter() - begin
            request.ledger.prompt_tokens = len(tokens)
            text = TextStream(self.tokenizer, stop, None if streams is None else streams[index])
            text.add(first, request.ledger)
            requests.append(request)
            texts.append(text)
        while active := [pair for pair in zip(requests, texts, strict=True) if not pair[0].done]:
            for (request, text), new in zip(active, loop.step([r for r, _ in active]), strict=True):
                request.cut(len(new), text.add(new, request.ledger))
        return [
            Generation(text.finish(), request.output, loop.finish(request),
                       self._drafts(request, stop))
            for request, text in zip(requests, texts, strict=True)
        ]  # fmt: skip

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

    def score(
        self, ids: Seq[int] | Tensor, recipe: Any = "full", *, prompt: int | None = None,
        chunk: int | None = None, block: int = 1,
    ) -> Tensor:  # fmt: skip
        """Log-probabilities of given tokens under a recipe, float32.

        prompt None: all are read as a prompt; returns `[n - 1]`, of every token but the first.
        prompt p: the first p are the prompt (so retention and codecs act at its end) and the rest
        is fed as decoding would, `block` tokens a forward; returns `[n - p]`.
        """
        tokens = self.encode(ids)
        if len(tokens) < 2:
            raise LengthwiseError("score needs at least two tokens")
        sequence = Sequence(self.adapted, self.plan(recipe), expected=len(tokens))
        if prompt is None:
            losses = Losses()
            loop.prefill(sequence, tokens, chunk or loop.CHUNK, losses=losses)
            return -torch.tensor(losses.values)
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

    fuse: let Llama-shaped families run leaner. In bf16 on a CPU that holds a packed copy of the
    weights beside the model's own; False saves that memory.
    """
    adapted = adapt(model, fuse, tokenizer=tokenizer)
    name = str(getattr(model.config, "_name_or_path", "") or model.config.model_type)
    provenance = Provenance(name, adapted.dtype, adapted.device, "wrapped", adapted.trained_length)
    return Model(adapted, tokenizer, provenance)


def check(model: Model | PreTrainedModel) -> Support:
    """Which questions a model supports exactly, which are refused, and why."""
    return model.check() if isinstance(model, Model) else wrap(model).check()


def custom_generate(recipe: Any = "full", **options: Any) -> Callable[..., Tensor]:
    """A function for `model.generate(..., custom_generate=...)` that runs a recipe in our loop.

    It honours max_new_tokens (or max_length), do_sample with its temperature, top_k, top_p, min_p,
    the repetition penalty, and eos ids of the generation config; rows may be left-padded. Options
    are those of `Model.generate`. Of a recipe that writes several texts the best one is taken.
    Returns ids `[batch, prompt + new]`, padded on the right.
    """

    def generate(model: PreTrainedModel, input_ids: Tensor, *_: Any, **kwargs: Any) -> Tensor:
        config = kwargs.get("generation_config") or model.generation_config
        mask = kwargs.get("attention_mask")
        rows = [
            row.tolist() if mask is None else row[mask[i].bool()].tolist()
            for i, row in enumerate(input_ids)
        ]
        settings: dict[str, Any] = {"repetition_penalty": config.repetition_penalty or 1.0}
        if config.do_sample:
            settings |= {"temperature": 1.0 if config.temperature is None else config.temperature,
                         "top_k": config.top_k or 0, "top_p": config.top_p or 1.0,
                         "min_p": config.min_p or 0.0}  # fmt: skip
        new = config.max_new_tokens or config.max_length - input_ids.shape[1]
        eos = config.eos_token_id
        stop_ids = [] if eos is None else [eos] if isinstance(eos, int) else list(eos)
        settings |= {"max_new_tokens": new, "stop_ids": stop_ids, **options}
        with wrap(model) as wrapped:
            found = wrapped.generate_batch(rows, recipe, **settings)
        longest = max(len(g.token_ids) for g in found)
        pad = config.pad_token_id if config.pad_token_id is not None else (stop_ids or [0])[0]
        tails = [g.token_ids + [pad] * (longest - len(g.token_ids)) for g in found]
        return torch.cat([input_ids, torch.tensor(tails, device=input_ids.device)], 1)

    return generate
