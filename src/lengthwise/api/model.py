"""A model that is held: generate, score and check under any recipe."""

from __future__ import annotations

from collections.abc import Callable, Sequence as Seq
from typing import TYPE_CHECKING, Any, Unpack

from torch import Tensor

from lengthwise import recipes
from lengthwise.api import ranking
from lengthwise.api.asking import close_batch, open_batch, open_stream, require_one
from lengthwise.api.generation import NEW_TOKENS, BatchOptions, Draft, Generation, Options
from lengthwise.api.given import known_options, shown_as
from lengthwise.api.model_base import ModelBase
from lengthwise.api.prompts import Prompt
from lengthwise.api.scoring import score_ids
from lengthwise.api.streams import AsyncStream, Stream
from lengthwise.engine import loop
from lengthwise.models.obstacles import no_autocast
from lengthwise.recipes import RecipeLike
from lengthwise.tokenization.byte_covers import TOLERANCE

if TYPE_CHECKING:
    from lengthwise.api.bytes_law import ByteText
    from lengthwise.api.chat import Chat
    from lengthwise.api.session import Session


class Model(ModelBase):
    """A causal language model adapted, with its tokenizer. Made by `load` or `wrap`.

    The underlying transformers model is untouched outside our own forwards and can be used as ever;
    leaving the context (or `close`) also undoes the fused weights.
    """

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

        Of the model's generation_config the end tokens hold, and what it suppresses or forces.
        Those are suppress_tokens, begin_suppress_tokens, bad_words_ids, forced_bos_token_id and
        forced_eos_token_id. Its temperature, penalties and lengths do not hold.

        Args:
            prompt: see `encode`.
            recipe: its text, such as "yarn(factor=2) + lookup", what `recipes.parse` made of it, or
                a list of methods.
            max_new_tokens: how many are written at most.
            stream: called with each piece of text as it comes; joined, the pieces are the text. See
                `Model.stream` for an iterator.
            stop: a string that ends the text and is left out of it, or several. Several texts
                written at once are cut there when they are complete.
            stop_ids: ids that end the text; None: the model's own.
            chunk: tokens of a prefill forward; None leaves it to the device.
            progress: called with tokens read.
            special: see `encode`.
            assistant_model: a second model that guesses, a transformers model or one of lengthwise,
                as `model(path=...)` does in a recipe (see `drafting_model`).
            temperature: 0 is greedy.
            top_k: sample among the k likeliest, 0 for all.
            top_p: sample among the likeliest that make up p.
            min_p: leave out those below this share of the likeliest.
            repetition_penalty: 1 is none.
            seed: an integer of 64 bits.

        Returns:
            The text, its token ids and its costs.

        Raises:
            RecipeError: before anything runs, for a recipe that cannot be parsed.
            Refused: before anything runs, for a recipe that cannot serve this model or prompt.
            LengthwiseError: before anything runs, for other arguments.
            NotFinite: where the model's logits are no numbers.
            OutOfMemory: where memory runs out; the model stays usable.
        """
        require_one(recipe)
        return self.generate_batch(
            [prompt], [recipe], max_new_tokens=max_new_tokens,
            streams=None if stream is None else [stream], stop=stop, stop_ids=stop_ids, chunk=chunk,
            progress=progress, special=special, assistant_model=assistant_model,
            temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p,
            repetition_penalty=repetition_penalty, seed=seed,
        )[0].require()  # fmt: skip

    @shown_as(generate, without=("stream",))
    @no_autocast()
    def generate_batch(
        self,
        prompts: Seq[Prompt],
        recipe: RecipeLike | Seq[RecipeLike] = "full",
        *,
        streams: Seq[Callable[[str], None]] | None = None,
        seed: int | Seq[int] = 0,
        **options: Unpack[BatchOptions],
    ) -> list[Generation]:
        """Several prompts at once; each gets what it would get alone, its noise included.

        What different recipes in one batch cost stands in docs/python.md.

        Args:
            prompts: a list of them, each as for `encode`.
            recipe: one for all, or a list with one for each prompt.
            streams: None, or one function for each prompt, called with the pieces of its text.
            seed: one for all, or a list with one for each prompt.
            **options: as in `generate`.

        Returns:
            A generation for each prompt, in their order. A row that its recipe cannot serve is not
                read and says so in `refused`. One whose logits are no numbers ends, and so does the
                longest one where memory runs out; `failed` says so. The others go on.

        Raises:
            LengthwiseError: before anything runs, as in `generate`; also for lists of other
                lengths.
        """
        batch, rows = open_batch(self, prompts, recipe, seed, streams, None, **options)
        batch.read()
        while batch.active:
            batch.step()
        return close_batch(self, batch, rows)

    @shown_as(generate, without=("stream",))
    def search(
        self, prompt: Prompt, recipe: RecipeLike = "full", *,
        num_return_sequences: int | None = None, num_beams: int | None = None,
        num_beam_groups: int | None = None, diversity_penalty: float | None = None,
        length_penalty: float | None = None, early_stopping: bool | str | None = None,
        **options: Unpack[Options],
    ) -> Generation:  # fmt: skip
        """Several texts, ranked: `model.search("Once", num_beams=4).drafts`.

        The names are those of transformers, and mean what they mean there. Under a recipe that
        says itself how texts are found, such as `beam(width=8)`, they are left out.

        Args:
            prompt: see `encode`.
            recipe: as for `generate`.
            num_return_sequences: texts that are wanted at most; None: all that were found.
            num_beams: texts that go on together; 4 where nothing is said.
            num_beam_groups: groups of them that are held apart.
            diversity_penalty: nats that a token loses for each group that has chosen it; without
                groups every text is one.
            length_penalty: exponent of the length by which a score is divided.
            early_stopping: True, False or "never".
            **options: as in `generate`. With a temperature candidates are drawn.

        Returns:
            The generation: its `drafts` are the texts with their scores, best first, no two alike.

        Raises:
            LengthwiseError: what `generate` raises, and for what fits no search.
        """
        from lengthwise.api.searching import search_texts

        searching = {
            "num_beams": num_beams, "num_beam_groups": num_beam_groups,
            "diversity_penalty": diversity_penalty, "length_penalty": length_penalty,
            "early_stopping": early_stopping,
        }  # fmt: skip
        return search_texts(self, prompt, recipe, num_return_sequences, searching, options)

    @shown_as(generate, without=("stream",))
    def stream(
        self, prompt: Prompt, recipe: RecipeLike = "full", **options: Unpack[Options]
    ) -> Stream:
        """The text piece by piece: `for piece in model.stream("Once", max_new_tokens=64)`.

        Nothing runs but what the next piece takes. Leaving the loop ends the generation, and so
        does `close` of the stream, from any thread.

        Args:
            prompt: see `encode`.
            recipe: as for `generate`.
            **options: as in `generate`.

        Returns:
            The stream, whose `generation` is what `generate` would have returned.

        Raises:
            LengthwiseError: what `generate` raises; of what the prompt or logits cause, as it is
                read.
        """
        return open_stream(self, prompt, recipe, options)

    @shown_as(generate, without=("stream",))
    def astream(
        self, prompt: Prompt, recipe: RecipeLike = "full", **options: Unpack[Options]
    ) -> AsyncStream:
        """`stream` for asyncio: `async for piece in model.astream("Once")`.

        The model runs in a thread of the stream's own. Cancelling the task that reads it ends the
        generation before the task ends, within one round or one chunk of a prompt.

        Args:
            prompt: see `encode`.
            recipe: as for `generate`.
            **options: as in `generate`.

        Returns:
            The stream; errors come with its first piece.
        """
        return AsyncStream(lambda: open_stream(self, prompt, recipe, options))

    def read(
        self, prompt: Prompt, recipe: RecipeLike = "full", *, special: str | None = None,
        chunk: int | None = None, progress: loop.Progress | None = None,
    ) -> Session:  # fmt: skip
        """Reads something once, to be asked many times.

        Args:
            prompt: a text or Document to ask about, chat messages that a question follows, or ids
                to go on from.
            recipe: as for `generate`.
            special: see `encode`.
            chunk: tokens of a prefill forward; None leaves it to the device.
            progress: called with tokens read.

        Returns:
            The session: `session.ask("Who signed it?")`.

        Raises:
            LengthwiseError: for what is no prompt, and an empty one.
            Refused: where the recipe cannot serve this model, as many tokens, or a session.
        """
        from lengthwise.api.session import read_session

        require_one(recipe)
        return read_session(self, prompt, recipes.recipe_of(recipe), special, chunk, progress)

    def read_apart(
        self, documents: Seq[Prompt], recipe: RecipeLike = "ape", *, prefix: Prompt | None = None,
        special: str | None = None, chunk: int | None = None,
        progress: loop.Progress | None = None,
    ) -> Session:  # fmt: skip
        """Reads documents that are set apart from the text around them, to be asked together.

        Args:
            documents: texts or Documents, or all of them ids.
            recipe: as for `generate`, with a method that says how they stand: ape (unseen by each
                other), pine (in no order) or v2pe (in steps of a fraction).
            prefix: what all of them stand behind: a text, within the chat template's message where
                there is one, or ids. None: the template's beginning, else the beginning token.
            special, chunk, progress: as for `read`.

        Returns:
            The session. `lengthwise.join` puts several together that were read under ape.

        Raises:
            LengthwiseError: for what are no documents, and where there is no prefix to be had.
            Refused: where the recipe cannot serve this model, or as many tokens.
        """
        from lengthwise.api.apart import read_documents

        require_one(recipe)
        return read_documents(
            self, documents, recipes.recipe_of(recipe), prefix, special, chunk, progress
        )

    def chat(self, recipe: RecipeLike = "full", system: str | None = None) -> Chat:
        """A conversation that keeps its cache over turns.

        Args:
            recipe: as for `generate`.
            system: what the model is told before all turns; None leaves it to the template.

        Returns:
            The chat: `chat.say("Hello")`.

        Raises:
            LengthwiseError: where the tokenizer has no chat template.
            Refused: where the recipe cannot serve this model, or a session.
        """
        from lengthwise.api.chat import Chat

        require_one(recipe)
        return Chat(self, recipes.recipe_of(recipe), system)

    @no_autocast()
    def score(
        self, ids: Seq[int] | Tensor, recipe: RecipeLike = "full", *, prompt: int | None = None,
        chunk: int | None = None, block: int = 1,
    ) -> Tensor:  # fmt: skip
        """Log-probabilities of given tokens under a recipe.

        Args:
            ids: two tokens or more, as for `encode`.
            recipe: as for `generate`.
            prompt: None: all tokens are read as a prompt. p: the first p are the prompt, so
                retention and codecs act at its end, and the rest is fed as decoding would.
            chunk: tokens of a prefill forward; None leaves it to the device.
            block: tokens of a forward behind the prompt; other than 1 only where there is one.

        Returns:
            float32 `[n - 1]`, of every token but the first; with a prompt of p tokens `[n - p]`.
                Minus infinity where the model gives a token no chance.

        Raises:
            LengthwiseError: for arguments other than these.
            Refused: where the recipe cannot serve this model, or this many tokens.
            NotFinite: where the model's logits are no numbers.
        """
        return score_ids(self, ids, recipe, prompt, chunk, block)

    def rank(
        self, prompt: Prompt, candidates: Seq[ranking.Candidate], recipe: RecipeLike = "full", *,
        normalise: str = "sum", against: Prompt | None = None, special: str | None = None,
        chunk: int | None = None, most: int = ranking.TOKENS,
    ) -> list[ranking.Ranked]:  # fmt: skip
        """Ranks candidates by the probability that the model gives them behind a prompt.

        The prompt is read once, and all candidates go through the model in one forward, as branches
        that do not see each other. Behind a text a candidate is encoded together with it. Where
        that changes the last tokens of the text, and behind messages and ids, it is encoded by
        itself.

        Args:
            prompt: what they stand behind: see `encode`.
            candidates: texts, or lists of ids; one at least.
            recipe: as for `generate`; drafting and decoding have no say here.
            normalise: "sum" ranks by the log-probability of all tokens, "mean" by that of a token.
            against: a prompt that stands for none, such as "Answer:". What a candidate has behind
                it is taken off (pointwise mutual information). None takes nothing off.
            special: see `encode`.
            chunk: tokens of a prefill forward; None leaves it to the device.
            most: tokens of a forward of candidates; more take several forwards.

        Returns:
            The candidates, best first; of equals the one that was given first.

        Raises:
            LengthwiseError: for no candidates, and one that is empty, too long, or no text or ids.
            Refused: where the recipe cannot serve this model or prompt.
            NotFinite: where the model's logits are no numbers.
        """
        return ranking.rank(
            self, prompt, candidates, recipe, normalise=normalise, against=against, special=special,
            chunk=chunk, most=most,
        )  # fmt: skip

    def bytes(
        self, prompt: Prompt | bytes, recipe: RecipeLike = "full", *, context: Prompt | None = None,
        suffix: str | None = None, order: str = "spm", tolerance: float = TOLERANCE,
        chunk: int | None = None,
    ) -> ByteText:  # fmt: skip
        """Reads a prompt as bytes, for the exact law of the next one (arXiv:2410.09303).

        Args:
            prompt: a text, or its bytes, which may end within a token and within a character.
                Special tokens written out in it are text. Or messages or ids, with nothing behind.
            recipe: as for `generate`.
            context: what stands before the text, as for `encode`; None: what the tokenizer puts
                there. The beginning token's id, `[model.tokenizer.bos_token_id]`, is one.
            suffix: what follows the text that is to be filled in behind the prompt.
            order: of prompt and suffix: "spm", the middle goes on from the prompt, or "psm".
            tolerance: share of the probability that may be left out, 0 to 0.01.
            chunk: tokens of a prefill forward; None leaves it to the device.

        Returns:
            The text: `law()`, `feed`, `logprob`, `fork`, `generate`. Several models' texts go
                together in a `lengthwise.ByteEnsemble`.

        Raises:
            LengthwiseError: for what is no prompt, one without a token before it, a tokenizer whose
                tokens' bytes cannot be told, and a suffix where it has no tokens to fill in by.
            Refused: where the recipe cannot serve this model or prompt, or writes several texts.
        """
        from lengthwise.api.bytes_law import open_bytes

        require_one(recipe)
        return open_bytes(self, prompt, recipe, context, suffix, order, tolerance, chunk)


__all__ = ["AsyncStream", "Draft", "Generation", "Model", "Stream"]
