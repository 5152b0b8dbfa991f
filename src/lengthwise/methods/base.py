"""The contract of a method: one frozen dataclass of options that answers one of six questions.

A method is registered under the entry-point group `lengthwise.methods`, ours and a third party's
alike. Its class says what it is (name, question, paper) and overrides the hooks it needs. Objects
with state (a selector's index, a retention's scores) are made anew for every sequence by
`start_*`. Options are dataclass fields made with `option`, so that the parser knows their types and
ranges.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Self

from lengthwise._utils.papers import Paper, Papers
from lengthwise.errors import Refused
from lengthwise.methods.budget import Budget
from lengthwise.methods.options import Needs, check_options, option, options, written
from lengthwise.methods.question import Question

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lengthwise.engine.decoding_mode import DecodingMode
    from lengthwise.engine.kernels.part import DistanceBias
    from lengthwise.engine.kv_cache.codec import Channels, Codec, Format
    from lengthwise.engine.kv_cache.contexts import ContextRule
    from lengthwise.engine.kv_cache.head_policy import HeadTable
    from lengthwise.engine.kv_cache.placement import Placement
    from lengthwise.engine.kv_cache.query_scale import QueryScale
    from lengthwise.engine.kv_cache.retention import Renewal, Retention
    from lengthwise.engine.kv_cache.selection import Selector
    from lengthwise.engine.next_token_law import NextTokenLaw
    from lengthwise.engine.speculative.draft_length import LengthPolicy
    from lengthwise.engine.speculative.drafter import Drafter
    from lengthwise.engine.speculative.verification import Verifier
    from lengthwise.methods.prompts import PromptText, TextModel
    from lengthwise.models.adapted_model import AdaptedModel
    from lengthwise.models.layer_facts import LayerFacts
    from lengthwise.models.rope import FrequencyRule


@dataclass(frozen=True)
class Method:
    """Base of all methods.

    Flags say what composition and the conformance suite need to know:
    chunking_exact: chunked prefill gives what one pass gives.
    decoding_exact: token by token gives what a prefill gives (before anything is dropped).
    shift_exact: adding a constant to all positions changes nothing after the prompt either; False
        where rotated keys are rounded or bounded channel by channel.
    raw_keys: needs un-rotated keys, or moves positions after keys were stored.
    frozen_positions: holds objects made of rotated keys, which nothing may move afterwards.
    ordinary_only: works only where every key is near and ordinary.
    prompts_only: a selection that reads prompts by its choice, holds no index and decodes from all.
    deletes_each_step: a retention that deletes while decoding, not only once after the prompt.
    deletable: a codec whose encoded entries can be deleted one by one.
    by_path: a law that depends on the written tokens alone: guesses and forks go with it.
    mixes_tokens: writes in mixtures of tokens, which nothing that looks at a text can follow.

    paper: what the method rests on: a Paper, a tuple of them, or None without one.
    best_known: the setting that our measurements found best, as a recipe, where it is not the
    default; defaults are the paper's or its released code's.
    """

    name: ClassVar[str]
    question: ClassVar[str]
    paper: ClassVar[Papers]
    best_known: ClassVar[str] = ""
    lossless: ClassVar[bool] = False
    chunking_exact: ClassVar[bool] = True
    decoding_exact: ClassVar[bool] = True
    shift_exact: ClassVar[bool] = True
    raw_keys: ClassVar[bool] = False
    frozen_positions: ClassVar[bool] = False
    ordinary_only: ClassVar[bool] = False
    prompts_only: ClassVar[bool] = False
    deletes_each_step: ClassVar[bool] = False
    deletable: ClassVar[bool] = False
    by_path: ClassVar[bool] = True
    mixes_tokens: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_options(self)

    def __str__(self) -> str:
        """The text of a recipe: the name, and the options that differ from their defaults."""
        return written(self)

    @classmethod
    def identity(cls, length: int) -> Method | None:
        """The setting that does nothing up to `length` tokens; None if there is none.

        Args:
            length: tokens of the text.
        """
        return None

    @classmethod
    def example(cls) -> Self:
        """A setting that does something to some sixty tokens, for tests on tiny models.

        Whole numbers above 16 become 8 and budgets in tokens 16; override where that will not do.
        """
        values: dict[str, int | Budget] = {}
        plain = cls()
        for each in options(cls):
            if each.needs and not each.needs.holds(plain):
                continue
            if each.type is int and isinstance(each.default, int) and each.default > 16:
                values[each.name] = max(8, int(each.low or 0))
            elif each.type is Budget and each.default.unit != "%":
                values[each.name] = Budget(16)
        return cls(**values)

    def at_share(self, share: float, model: AdaptedModel, length: int) -> Method | None:
        """This method at a share of what full attention holds of a prompt, for `bench shelf`.

        A retention or a codec holds that share of the bytes. A selection reads that share of the
        tokens a step. By default the option that is a Budget is set to it, or else a number called
        `share`. Override where a method has neither, or where other options have to shrink too.

        Args:
            share: above 0 and at most 1.
            model: the adapted model the recipe runs on.
            length: tokens of the prompt.

        Returns:
            The setting, other options as they are; None where the method has no such setting.
        """
        own = options(type(self))
        for each in own:
            if each.type is Budget:
                return replace(self, **{each.name: Budget.of(share)})
        named = any(each.name == "share" and each.type is float for each in own)
        return replace(self, **{"share": float(share)}) if named else None

    def check(self, model: AdaptedModel) -> None:
        """Raises Refused where this model cannot run the method.

        Args:
            model: the adapted model the recipe runs on.
        """

    def check_prompt(self, model: AdaptedModel, length: int, placement: Placement) -> None:
        """Raises Refused where a prompt of `length` tokens cannot be served.

        Asked before anything is read.

        Args:
            model: the adapted model the recipe runs on.
            length: tokens of the prompt.
            placement: what the whole recipe came to.
        """

    @property
    def reads_by_length(self) -> bool:
        """Whether what is deleted while a prompt is read depends on how long the prompt will be.

        A session does not know that yet, and refuses such a method.
        """
        return False

    def frequencies(self, model: AdaptedModel) -> FrequencyRule | None:
        """New rotary frequencies, for positions/ methods.

        Args:
            model: the adapted model the recipe runs on.

        Returns:
            The rule; None leaves the model's own.
        """
        return None

    def query_scale(self, model: AdaptedModel) -> QueryScale | None:
        """What the logits of a query are multiplied by, by its position.

        Args:
            model: the adapted model the recipe runs on.

        Returns:
            The scale; None leaves logits as they are.
        """
        return None

    def placement(self, model: AdaptedModel) -> Placement | None:
        """Where tokens stand. A selection method gives its local window here.

        Args:
            model: the adapted model the recipe runs on.

        Returns:
            The placement; None leaves it to the other methods of the recipe.
        """
        return None

    def contexts(self, model: AdaptedModel) -> ContextRule | None:
        """How documents stand that are set apart from the text around them.

        Args:
            model: the adapted model the recipe runs on.

        Returns:
            The rule; None where everything is one text.
        """
        return None

    def distance_bias(self, layer: LayerFacts) -> DistanceBias | None:
        """What is added to a logit for the distance of query and key, for one layer.

        Args:
            layer: facts of the layer.

        Returns:
            The bias; None adds nothing.
        """
        return None

    def start_selector(self, layer: LayerFacts) -> Selector | None:
        """State of a selection for one layer of one sequence; None leaves that layer dense.

        Args:
            layer: facts of the layer.
        """
        return None

    def selectors(self, model: AdaptedModel) -> Callable[[LayerFacts], Selector | None]:
        """What starts the selectors of a model's layers: `start_selector`.

        A method that has measured something of the model gives it to them here.

        Args:
            model: the adapted model the recipe runs on.
        """
        return self.start_selector

    def start_renewal(self, model: AdaptedModel) -> Renewal | None:
        """What computes entries again while a text is written, for one sequence.

        Args:
            model: the adapted model the recipe runs on.

        Returns:
            The renewal; None leaves entries as they were computed.
        """
        return None

    def start_retention(self, model: AdaptedModel) -> Retention | None:
        """State of a retention for one sequence (all its layers).

        Args:
            model: the adapted model the recipe runs on.
        """
        return None

    def head_table(self, model: AdaptedModel) -> HeadTable | None:
        """What key heads do from the first token on, where not all of them do the same.

        Args:
            model: the adapted model the recipe runs on.

        Returns:
            The policies of each layer; None where all heads do what the rest of the recipe says.
        """
        return None

    def start_channels(self, layer: LayerFacts) -> Channels | None:
        """What chooses the key channels that are stored, for one layer of one sequence.

        A recipe may have one of these and one `start_format`: entries are pruned, then encoded.

        Args:
            layer: facts of the layer.

        Returns:
            The choice; None keeps all channels.
        """
        return None

    def start_format(self, layer: LayerFacts) -> Format | None:
        """In which numbers entries are stored, for one layer of one sequence.

        Args:
            layer: facts of the layer.

        Returns:
            The format; None keeps the model's dtype.
        """
        return None

    def start_codec(self, layer: LayerFacts) -> Codec | None:
        """State of a codec for one layer of one sequence.

        By default it is what a choice of channels and a format of numbers make. A codec that is
        neither overrides it, and goes with no other.

        Args:
            layer: facts of the layer.

        Returns:
            The codec; None stores the layer plain.
        """
        from lengthwise.methods.codecs.pruned import coded

        return coded(self.start_channels(layer), self.start_format(layer))

    def start_drafter(self, model: AdaptedModel) -> Drafter | None:
        """State of a drafter for one sequence.

        Args:
            model: the target, which the recipe runs on.
        """
        return None

    def start_verifier(self, model: AdaptedModel) -> Verifier | None:
        """What accepts guesses in place of the lossless verifier, for one sequence.

        Args:
            model: the target, which the recipe runs on.

        Returns:
            The verifier; None is the lossless one.
        """
        return None

    def start_policy(self, model: AdaptedModel) -> LengthPolicy | None:
        """What says how much is guessed in place of goodput.

        Args:
            model: the target, which the recipe runs on.

        Returns:
            One policy for all sequences of the recipe; None is goodput.
        """
        return None

    def start_mode(self, model: AdaptedModel) -> DecodingMode | None:
        """A way to write that takes the place of the loop's one token a step, for one sequence.

        Args:
            model: the adapted model the recipe runs on.
        """
        return None

    def start_law(self, model: AdaptedModel) -> NextTokenLaw | None:
        """What changes the law of the next token: a constraint, a contrast, a route to a model.

        Args:
            model: the adapted model the recipe runs on.
        """
        return None

    def write_prompt(self, documents: Sequence[str], question: str, model: TextModel) -> PromptText:
        """What is read of documents to answer a question, for prompting/ methods.

        Args:
            documents: texts, at least one.
            question: as it was asked.
            model: that will read, and may be asked on the way.

        Returns:
            By default all of the documents, in their order.

        Raises:
            Refused: where the model, or the budget, cannot serve.
        """
        from lengthwise.methods.prompts import PromptText, whole

        return PromptText(whole(documents), question)

    def first_token(self, model: AdaptedModel) -> int | None:
        """The token that every answer begins with, in place of the one that the model would choose.

        Args:
            model: the adapted model the recipe runs on, with its tokenizer where it has one.

        Returns:
            Its id; None leaves the beginning to the model.
        """
        return None


def needs_rope(method: Method, model: AdaptedModel) -> None:
    """Refuses a method that moves positions on a model without rotary positions.

    Args:
        method: which moves them.
        model: the adapted model the recipe runs on.

    Raises:
        Refused: for such a model.
    """
    if model.rope is None:
        raise Refused(
            f"{method.name} changes rotary positions and this {model.family!r} model has none",
            "use a selection, retention or codec method instead",
        )


__all__ = ["Budget", "Method", "Needs", "Paper", "Question", "needs_rope", "option"]
