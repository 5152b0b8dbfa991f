"""Model: a second, smaller model guesses.

Leviathan et al., "Fast Inference from Transformers via Speculative Decoding", ICML 2023,
arXiv:2211.17192. Chen et al., "Accelerating Large Language Model Decoding with Speculative
Sampling", 2023, arXiv:2302.01318.

A small model q says several tokens. The large one p scores them in one forward, and says the next
itself:

    accept x with probability min(1, p(x) / q(x)), else draw from norm(max(p - q, 0))

This is `draws=rejection`. By default guesses are coupled to the target's own noise instead. That
keeps the text of a seed, and compares well where q is near p.

The second model has a sequence of its own, under a recipe of its own (`recipe`), since a small
model was often trained for a short context. Where its tokenizer differs, guesses are translated
through text, as deterministic ones. Where a tokenizer is missing, vocabularies of one size are
taken for the same, with a note, and others are refused. A model that the user holds is named by
`lengthwise.drafting_model`.
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from transformers import PreTrainedTokenizerBase

from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.plan import Plan
from lengthwise.engine.speculative.draft_model import DraftModelRunner
from lengthwise.engine.speculative.loading import load_draft_model
from lengthwise.engine.speculative.tree import Tree
from lengthwise.errors import Refused
from lengthwise.methods.base import Method, Paper, Question, option
from lengthwise.methods.drafting._shared.draft_choice import draft_model_notes
from lengthwise.methods.drafting._shared.model_drafter import (
    ModelDrafter,
    bucket_of,
    depth_option,
    draws_option,
    width_option,
)
from lengthwise.methods.nested import plan_of
from lengthwise.methods.second_model import shared_vocabulary
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.models.limits import position_limit
from lengthwise.models.load import DTYPES
from lengthwise.tokenization.translation import Translator

if TYPE_CHECKING:
    from lengthwise.engine.kv_cache.placement import Placement


@dataclass(frozen=True)
class SecondModel(Method):
    """path: a local folder, a GGUF file, a hub name or a model that was given; none is the embedded
    model. dtype: its own, by default the target's. recipe: how it reads."""

    name: ClassVar[str] = "model"
    question: ClassVar[Question] = Question.DRAFTING
    paper: ClassVar[tuple[Paper, ...]] = (
        Paper(
            "Fast Inference from Transformers via Speculative Decoding",
            "Leviathan et al.",
            2023,
            arxiv="2211.17192",
            venue="ICML",
        ),
        Paper(
            "Accelerating Large Language Model Decoding with Speculative Sampling",
            "Chen et al.",
            2023,
            arxiv="2302.01318",
        ),
    )
    lossless: ClassVar[bool] = True
    path: str | None = option(
        None, "folder, GGUF file, hub name or a given model; none: the embedded model"
    )
    dtype: str | None = option(None, "the second model's; none: the first's", choices=(*DTYPES,))
    recipe: str = option("full", 'how it reads, such as "streaming(window=252)"')
    depth: int = depth_option(5)
    width: int = width_option(2)
    draws: str = draws_option()

    @classmethod
    def identity(cls, length: int) -> SecondModel:
        """Whoever guesses, the text is the target's own."""
        return cls()

    def check(self, model: AdaptedModel) -> None:
        self.start_drafter(model)

    def check_prompt(self, model: AdaptedModel, length: int, placement: Placement) -> None:
        limit = position_limit(self.load(model))
        if limit is not None and length > limit:
            raise Refused(
                f"{self}: the second model has learned positions for {limit:,} tokens, and the "
                f"prompt has {length:,}",
                "give a shorter prompt, or another drafter",
            )

    def load(self, model: AdaptedModel) -> AdaptedModel:
        """The second model, loaded and adapted once per process, where the first one lives; or the
        one that was given, as it is."""
        dtype = DTYPES[self.dtype] if self.dtype else model.dtype
        draft = load_draft_model(self.path, dtype, model.device)
        if draft.model is model.model:
            draft = model
        if self.dtype and draft.dtype != dtype:
            raise Refused(
                f"{self}: the model that was given is in {draft.dtype}, and is used as it is",
                "leave out dtype, or give the model in that dtype",
            )
        return draft

    def plan(self, draft: AdaptedModel) -> Plan:
        """How the second model reads; raises Refused for what would be left out of it."""
        plan = plan_of(self.recipe, draft)
        given = f"model(recipe={plan.text})"
        if plan.drafters or plan.decides:
            raise Refused(
                f"{given}: the second model is asked what comes next, so nobody guesses or writes "
                "in its place",
                "give it a recipe of positions, selection, retention and codecs",
            )
        retention = plan.retention() if plan.retention else None
        if retention is not None and retention.wants_token_nll:
            raise Refused(
                f"{given} needs notes of every token said, which are not taken of what a second "
                "model reads",
                "use another retention, such as streaming or h2o",
            )
        return plan

    def start_drafter(self, model: AdaptedModel) -> SecondModelDrafter:
        draft = self.load(model)
        plan = self.plan(draft)
        target, own = model.tokenizer, draft.tokenizer
        if shared_vocabulary(str(self), model, draft) or target is None or own is None:
            found = SecondModelDrafter(self, draft, plan)
        else:
            found = TranslatingDrafter(self, draft, plan, target, own)
        found.notes = draft_model_notes(self.name, model, draft)
        return found


class SecondModelDrafter(ModelDrafter):
    """Asks a model that has the target's vocabulary. plan: how it reads."""

    def __init__(self, options: SecondModel, draft: AdaptedModel, plan: Plan) -> None:
        super().__init__("model", options.depth, options.width, options.draws)
        self.draft, self.plan = draft, plan

    def open(self, sequence: Sequence) -> DraftModelRunner:
        return DraftModelRunner.prefilled(self.draft, sequence.tokens, self.plan)


class TranslatingDrafter(SecondModelDrafter):
    """Asks a model that has another vocabulary; its likeliest chain is translated into guesses.

    Its noise cannot be the target's, so under sampling too it guesses what is likeliest.
    """

    drawing = False

    def __init__(
        self,
        options: SecondModel,
        draft: AdaptedModel,
        plan: Plan,
        target_tokenizer: PreTrainedTokenizerBase,
        draft_tokenizer: PreTrainedTokenizerBase,
    ) -> None:
        super().__init__(options, draft, plan)
        self.translator = Translator(target_tokenizer, draft_tokenizer, str(options))
        self._named = len(draft_tokenizer)

    def open(self, sequence: Sequence) -> DraftModelRunner:
        self.translator.read(sequence.tokens)
        return DraftModelRunner.prefilled(self.draft, self.translator.settled[:-1], self.plan)

    def propose(self, tokens: Seq[int], tree: Tree, limit: int) -> None:
        translator = self.translator
        translator.read(tokens)
        if not translator.settled:
            return
        asked = Tree(translator.settled[-1])
        asked.add_chain(translator.open)
        guesses: list[int] = []
        probs: list[float] = []
        for _ in range(min(limit, self.depth)):
            logits = self.runner.score(translator.settled, asked, self.draft_depth.wants_state)[-1]
            prob, best = logits[: self._named].float().softmax(-1).max(-1)
            guesses.append(int(best))
            probs.append(float(prob))
            asked.add(len(asked) - 1, guesses[-1])
            state = self.runner.states[-1] if self.runner.states is not None else None
            if not self.draft_depth.should_continue(bucket_of(0, probs[-1]), probs[-1], state):
                break
        node = 0
        for guess in translator.back(tokens, guesses, probs)[:limit]:
            kind = bucket_of(int(guess.open), guess.prior)
            node = tree.add(node, guess.token, self.name, kind, guess.prior)


__all__ = ["SecondModelDrafter", "SecondModel", "TranslatingDrafter"]
