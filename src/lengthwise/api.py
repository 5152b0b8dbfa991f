"""The Python face: load or wrap a model, then generate, score and check under any recipe.

model = lengthwise.load()
print(model.generate("Once", recipe="yarn(factor=2) + lookup", max_new_tokens=64).text)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence as Seq
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any, Unpack

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lengthwise import recipes
from lengthwise.asking import close_batch, open_batch, open_stream, require_one
from lengthwise.document import Document
from lengthwise.engine import loop
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.losses import Losses
from lengthwise.engine.plan import Plan
from lengthwise.errors import LengthwiseError
from lengthwise.generation import NEW_TOKENS, Draft, Generation, Options
from lengthwise.given import known_options, shown_as
from lengthwise.models.adapt import adapt
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.models.limits import require_positions
from lengthwise.models.load import Provenance, load_pretrained
from lengthwise.models.obstacles import no_autocast
from lengthwise.prompts import SPECIAL, Prompt, encode_messages, encode_text, given_ids
from lengthwise.recipes import RecipeLike
from lengthwise.shown import as_html, as_text, require_model
from lengthwise.streams import AsyncStream, Stream

if TYPE_CHECKING:
    from lengthwise.support import Support


class Model:
    """A causal language model adapted, with its tokenizer. Made by `load` or `wrap`.

    The underlying transformers model is untouched outside our own forwards and can be used as ever;
    leaving the context (or `close`) also undoes the fused weights.
    """

    def __init__(
        self,
        adapted: AdaptedModel,
        tokenizer: PreTrainedTokenizerBase | None,
        provenance: Provenance,
    ) -> None:
        self.adapted = adapted
        self.adapted.tokenizer = self.tokenizer = tokenizer
        self.provenance = provenance

    def __repr__(self) -> str:
        return as_text(self)

    def _repr_html_(self) -> str:
        return as_html(self)

    def __enter__(self) -> Model:
        return self

    def __exit__(self, *_: object) -> None:
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
        from lengthwise.support import check

        return check(self.adapted)

    def plan(self, recipe: RecipeLike = "full") -> Plan:
        """The recipe resolved for this model.

        Raises:
            RecipeError: for a recipe that cannot be read.
            Refused: for one that cannot run on this model, with a way out.
        """
        return recipes.resolve(recipe, self.adapted)

    # Text and tokens.

    def encode(self, prompt: Prompt, special: str | None = None) -> list[int]:
        """Token ids of a prompt.

        Args:
            prompt: text, or a Document; chat messages, which go through the chat template (a last
                one of the assistant's is continued); or ids, in a list, a tensor, an array or what
                a tokenizer returned. A text that begins with the beginning token gets no second.
            special: what special tokens written out in it are, "tokens" or "text". None: tokens in
                a string, as in transformers; text in a Document and in the contents of messages, so
                that none can end itself.

        Raises:
            LengthwiseError: for an empty prompt, or ids outside of the vocabulary.
        """
        if special is not None and special not in SPECIAL:
            raise LengthwiseError(f"special={special!r}: allowed are {', '.join(SPECIAL)}")
        if isinstance(prompt, Document):
            prompt, special = prompt.text, special or "text"
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

    @known_options
    def generate(
        self,
        prompt: Prompt,
        recipe: RecipeLike = "full",
        *,
        max_new_tokens: int = NEW_TOKENS,
        stream: Callable[[str], None] | None = None,
        stop: str | Seq[str] = (),
        stop_ids: Seq[int] | None = None,
        chunk: int | None = None,
        progress: loop.Progress | None = None,
        special: str | None = None,
        assistant_model: Any = None,
        temperature: float = 0.0,
        top_k: int = 0,
        top_p: float = 1.0,
        min_p: float = 0.0,
        repetition_penalty: float = 1.0,
        seed: int = 0,
    ) -> Generation:
        """Reads the prompt and writes on, greedily unless a temperature is given.

        Of the model's generation_config the end tokens hold, and what it suppresses or forces
        (suppress_tokens, begin_suppress_tokens, bad_words_ids, forced_bos_token_id,
        forced_eos_token_id). Its temperature, penalties and lengths do not.

        Args:
            prompt: see `encode`.
            recipe: its text, such as "yarn(factor=2) + lookup", what `recipes.parse` made of it, or
                a list of methods.
            max_new_tokens: most tokens of the answer.
            stream: called with each piece of the text as it comes (`Model.stream` is an iterator).
            stop: a string that ends the text, or several; left out of it. Several texts written at
                once are cut there when they are complete.
            stop_ids: ids that end the text; None is the model's own.
            chunk: tokens of a prefill forward; None leaves it to the device.
            progress: called with tokens read.
            special: see `encode`.
            assistant_model: a second model that guesses, of transformers or of lengthwise, as
                `model(path=...)` does in a recipe (see `drafting_model`).
            temperature: 0 is greedy.
            top_k: sample among the k likeliest; 0 is all.
            top_p: sample among the likeliest that make up this probability.
            min_p: leave out those below this share of the likeliest one's probability.
            repetition_penalty: 1 is none.
            seed: of the samples, an integer of 64 bits.

        Returns:
            A Generation: the text, its tokens, and what it cost.

        Raises:
            RecipeError: for a recipe that cannot be read.
            Refused: for one that cannot run here, with a way out.
            LengthwiseError: for anything else that cannot be done, before anything runs.
            NotFinite: where the model's logits are no numbers.
        """
        require_one(recipe)
        return self.generate_batch(
            [prompt], [recipe], max_new_tokens=max_new_tokens,
            streams=None if stream is None else [stream], stop=stop, stop_ids=stop_ids, chunk=chunk,
            progress=progress, special=special, assistant_model=assistant_model,
            temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p,
            repetition_penalty=repetition_penalty, seed=seed,
        )[0].require()  # fmt: skip

    @known_options
    @no_autocast()
    def generate_batch(
        self,
        prompts: Seq[Prompt],
        recipe: RecipeLike | Seq[RecipeLike] = "full",
        *,
        max_new_tokens: int = NEW_TOKENS,
        streams: Seq[Callable[[str], None]] | None = None,
        stop: str | Seq[str] = (),
        stop_ids: Seq[int] | None = None,
        chunk: int | None = None,
        progress: loop.Progress | None = None,
        special: str | None = None,
        assistant_model: Any = None,
        temperature: float = 0.0,
        top_k: int = 0,
        top_p: float = 1.0,
        min_p: float = 0.0,
        repetition_penalty: float = 1.0,
        seed: int | Seq[int] = 0,
    ) -> list[Generation]:
        """Several prompts at once; each gets what it would get alone, its noise included.

        What different recipes in one batch cost stands in docs/python.md. Everything that is not
        named here is as in `generate`.

        Args:
            prompts: see `encode`.
            recipe: one for all, or a list with one for each prompt.
            streams: one for each prompt, called with pieces of its text.
            seed: one for all, or a list with one for each prompt.

        Returns:
            A Generation for each prompt. A row that its recipe cannot serve is not read and says so
            in `refused`. One whose logits are no numbers ends, and says so in `failed`. Both leave
            the others as they are.

        Raises:
            RecipeError: for a recipe that cannot be read.
            Refused: for one that cannot run on this model.
            LengthwiseError: for anything else that cannot be done, before anything runs.
        """
        batch, rows = open_batch(
            self, prompts, recipe, seed, streams, None,
            max_new_tokens=max_new_tokens, stop=stop, stop_ids=stop_ids, chunk=chunk,
            progress=progress, special=special, assistant_model=assistant_model,
            temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p,
            repetition_penalty=repetition_penalty,
        )  # fmt: skip
        batch.read()
        while batch.active:
            batch.step()
        return close_batch(self, batch, rows)

    @shown_as(generate, without=("stream",))
    def stream(
        self, prompt: Prompt, recipe: RecipeLike = "full", **options: Unpack[Options]
    ) -> Stream:
        """The text piece by piece: `for piece in model.stream("Once", max_new_tokens=64)`.

        options: as in `generate`, which also raises what this does. Nothing runs but what the next
        piece takes; leaving the loop ends the generation, and so does `close` of the stream, from
        any thread. Its `generation` is what `generate` would have returned.
        """
        return open_stream(self, prompt, recipe, options)

    @shown_as(generate, without=("stream",))
    def astream(
        self, prompt: Prompt, recipe: RecipeLike = "full", **options: Unpack[Options]
    ) -> AsyncStream:
        """`stream` for asyncio: `async for piece in model.astream("Once")`.

        The model runs in a thread of the stream's own. Cancelling the task that reads it ends the
        generation before the task ends, within one round or one chunk of a prompt. Errors come with
        the first piece.
        """
        return AsyncStream(lambda: open_stream(self, prompt, recipe, options))

    @no_autocast()
    def score(
        self, ids: Seq[int] | Tensor, recipe: RecipeLike = "full", *, prompt: int | None = None,
        chunk: int | None = None, block: int = 1,
    ) -> Tensor:  # fmt: skip
        """Log-probabilities of given tokens under a recipe.

        Args:
            ids: n tokens, at least two.
            recipe: as in `generate`.
            prompt: how many of them are the prompt, so that retention and codecs act at its end;
                the rest is fed as decoding would. None reads all of them as a prompt.
            chunk: tokens of a prefill forward; None leaves it to the device.
            block: tokens of a forward after the prompt.

        Returns:
            float32 `[n - prompt]`, of every token after the prompt; `[n - 1]`, of every token but
            the first, where prompt is None. Minus infinity is a token of probability 0.

        Raises:
            RecipeError: for a recipe that cannot be read.
            Refused: for one that cannot run here, or more tokens than the model has positions for.
            NotFinite: where the model's logits are no numbers.
        """
        for name, given in (("prompt", prompt), ("chunk", chunk), ("block", block)):
            if given is not None and (isinstance(given, bool) or not isinstance(given, int)):
                raise LengthwiseError(f"{name}={given!r}: give a whole number")
            if given is not None and given < 1:
                raise LengthwiseError(f"{name}={given}: give at least 1")
        if prompt is None and block != 1:
            raise LengthwiseError(f"block={block} is of what follows a prompt; give prompt= too")
        tokens = self.encode(ids)
        if len(tokens) < 2:
            raise LengthwiseError("score needs at least two tokens")
        require_positions(self.adapted, len(tokens))
        plan = self.plan(recipe)
        plan.check_prompt(len(tokens) if prompt is None else prompt)
        sequence = Sequence(self.adapted, plan, expected=len(tokens))
        if prompt is None:
            losses = Losses()
            loop.prefill(sequence, tokens, chunk, losses=losses)
            return -torch.tensor(losses.values, dtype=torch.float32)
        if not 0 < prompt < len(tokens):
            raise LengthwiseError(f"prompt={prompt}: allowed is 1 to {len(tokens) - 1}")
        loop.prefill(sequence, tokens[:prompt], chunk)
        sequence.end_prefill()
        rest = tokens[prompt:]
        logits = loop.teacher_force(sequence, rest, block).float()
        targets = torch.tensor(rest, device=logits.device)[:, None]
        return torch.log_softmax(logits, -1).gather(1, targets)[:, 0].cpu()


def load(
    name: str | PathLike[str] | None = None,
    dtype: str | torch.dtype | None = None,
    device: str | torch.device | None = None,
) -> Model:
    """Loads and adapts a model.

    Args:
        name: a local folder, a GGUF file or a hub name; None is the embedded SmolLM2-135M-Instruct.
        dtype: of the weights; None is what the machine is fast at.
        device: where it runs; None is the machine's accelerator, or else the CPU.

    Raises:
        ModelError: for what is not there or cannot be read.
        UnsupportedModel: for a model that is not itself at our attention hook.
    """
    if name is not None and not isinstance(name, (str, PathLike)):
        raise LengthwiseError(
            f"load of a {type(name).__name__}: give a folder, a GGUF file or a hub name; a model "
            "that you hold goes to lengthwise.wrap"
        )
    place = None if name is None else fspath(name)
    model, tokenizer, provenance = load_pretrained(place, dtype, device)
    return Model(adapt(model, tokenizer=tokenizer), tokenizer, provenance)


def wrap(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None = None, fuse: bool = True
) -> Model:
    """Adapts a model the user already holds; a context manager that gives it back as it was.

    Args:
        model: as transformers gives it, or in a wrapper of torch.compile, DataParallel or peft.
            What is done to it later (weights, hooks, adapters) shows at the next request.
        tokenizer: of the model; without one prompts are token ids.
        fuse: let Llama-shaped families run leaner. In bf16 on a CPU that holds a packed copy of the
            weights beside the model's own; False saves that memory.

    Raises:
        UnsupportedModel: for a model that cannot run here, with the reason.
    """
    require_model(model, tokenizer)
    adapted = adapt(model, fuse, tokenizer=tokenizer)
    name = str(getattr(adapted.model.config, "_name_or_path", "") or adapted.family)
    provenance = Provenance(name, adapted.dtype, adapted.device, "wrapped", adapted.trained_length)
    return Model(adapted, tokenizer, provenance)


def check(model: Model | PreTrainedModel) -> Support:
    """Which questions a model supports exactly, which are refused, and why."""
    return model.check() if isinstance(model, Model) else wrap(model).check()


__all__ = ["AsyncStream", "Draft", "Generation", "Model", "Stream", "check", "load", "wrap"]
