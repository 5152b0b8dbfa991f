"""Every check there is, with what it asks, of whom, and where to look when it fails."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence as Seq
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lengthwise.engine.speculative.drafter import Drafter
from lengthwise.errors import Refused
from lengthwise.methods.base import Method, Question
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.recipes import resolve
from lengthwise.recipes.registry import find
from lengthwise.testing import (
    decoders,
    documents,
    drafters,
    ids,
    laws,
    policies,
    prompting,
    verifiers,
)
from lengthwise.testing.laws import FAMILIES, ConformanceError, Law, law_model

if TYPE_CHECKING:
    import pytest

# A method, by its registered name or as a class.
MethodLike = str | type[Method]
# Reasons why checks may fail: by the name of a check, or by its whole id, as "identity-phi".
Expected = Mapping[str, str]


@dataclass(frozen=True)
class Kind:
    """One thing that is checked. run: raises ConformanceError. hint: what to look at if it does.

    needs: a hook that the method overrides; "" is every method. What is asked of a role runs on
    the models of one family, what is asked of all methods on those of every one.
    decides: asked of methods that judge guesses as well, which cannot run without a drafter.
    """

    name: str
    run: Law
    hint: str
    needs: str = ""
    decides: bool = False


def _role(hook: str, run: Law, hint: str) -> Kind:
    name = run.__name__.removeprefix("check_")
    return Kind(name, run, hint, hook, hook in ("start_verifier", "start_policy"))


DRAFTER = "lengthwise.engine.speculative.drafter.Drafter"
KINDS: tuple[Kind, ...] = (
    Kind("identity", laws.check_identity,
         "with `Method.identity(length)` nothing may be dropped, encoded or moved within `length` "
         "tokens; return None only where there is no such setting"),
    Kind("bytes", laws.check_bytes,
         "drop entries through `group.keep(ids)`, for masking keeps their bytes; read `Budget."
         "tokens(length, bytes_per_token)`, and count an index in `tensors()`"),
    Kind("drafting_equals_plain", laws.check_drafting_equals_plain,
         "`tokens_until_change()` must tell the tokens until the cache changes next, so that no "
         "guess is read from a cache that plain decoding would not see"),
    Kind("positions", laws.check_positions,
         "decide by birth ids and not by how the text was fed; else declare `chunking_exact`, "
         "`decoding_exact` or `shift_exact` False (docstring of lengthwise.methods.base.Method)"),
    Kind("batch", laws.check_batch,
         "what `start_*` returns is the state of one sequence: keep none on the method's class or "
         "in its module"),
    Kind("fork", laws.check_fork,
         "state must survive `copy.deepcopy`, and hold nothing that its original goes on changing"),
    Kind("refusals", laws.check_refusals,
         "give options their `low`, `high` and `choices` with `option(...)`, and refuse in "
         "`check` or `check_prompt` what cannot run, before anything is read", decides=True),
    _role("contexts", documents.check_documents,
          "a rule says where documents stand and not how they were fed; `order_free` only where "
          "their order is nothing (docstring of lengthwise.engine.kv_cache.contexts.ContextRule)"),
    _role("write_prompt", prompting.check_prompt_identity,
          "with a budget of all tokens read `whole(documents)`, the question as it is"),
    _role("write_prompt", prompting.check_prompt_budget,
          "choose with `within`, which counts passages joined; ask `tokens_of` for the budget"),
    _role("write_prompt", prompting.check_prompt_sources,
          "`Passage.start` and `stop` are characters of the document as it was given"),
    _role("write_prompt", prompting.check_prompt_repeats,
          "keep nothing between prompts, and draw with a seed that is an option"),
    _role("write_prompt", prompting.check_prompt_text_alone,
          "ask `logits_of(model, self.name)` before you look at probabilities, and `attention_of` "
          "before you look at attention"),
    _role("start_retention", ids.check_retention_ids,
          "`group.keep(ids)` takes int64 ids of `group.compressible`, ascending and each once: "
          "sort what `topk` gives"),
    _role("start_selector", ids.check_selection_ids,
          "`SelectedKeys.ids` are int64 positions in the far store, ascending and each once: "
          "sort what `topk` gives"),
    _role("start_drafter", drafters.check_drafter_notes,
          f"the engine leaves out a drafter that raises; `notes` is for what the user has to know "
          f"(docstring of {DRAFTER})"),
    _role("start_drafter", drafters.check_drafter_depth,
          "stop at `limit`: `tree.depths[node] < limit` before adding below a node"),
    _role("start_drafter", drafters.check_drafter_tokens,
          "guess ids of the target's vocabulary, 0 to `model.vocab_size` - 1, with a `prior` of 0 "
          "to 1"),
    _role("start_drafter", drafters.check_drafter_arguments,
          "`tokens`, `accepted`, `logits` and the guesses of others are to be read: copy what you "
          "want to change"),
    _role("start_drafter", drafters.check_drafter_sources,
          "leave `source` out, or give `self.name`; what guesses earn is counted by it"),
    _role("start_drafter", drafters.check_drafter_guesses,
          "`propose` adds guesses with `tree.add(parent, token)`, below node 0 to begin with; "
          "`example()` must be a setting that guesses something"),
    _role("start_drafter", drafters.check_drafter_greedy,
          "a drafter changes speed alone: `fork` the sequence that `begin` gives, and feed or "
          f"commit nothing to it (docstring of {DRAFTER})"),
    _role("start_drafter", drafters.check_drafter_coupled,
          "a drafter changes speed alone, at any temperature: `fork` the sequence that `begin` "
          "gives; use `Sampler.perturbed` for noise, never a generator that others share"),
    _role("start_drafter", drafters.check_drafter_rejection,
          "`tree.draw` takes tokens in the order they were drawn from the very probabilities it is "
          "given, with a stream of noise of your own: `streams(self.name)` and a number that "
          "grows with every round"),
    _role("start_law", decoders.check_law_identity,
          "with `Method.identity(length)` scores come back as they were given; return None only "
          "where there is no such setting"),
    _role("start_law", decoders.check_law_by_path,
          "answer from the written tokens alone, or declare `by_path` False"),
    _role("start_law", decoders.check_decoder_batch,
          "what `start_law` returns is the state of one sequence"),
    _role("start_mode", decoders.check_mode_texts,
          "`alternatives` are best first, stop tokens left out; `width` is how many texts may hold "
          "entries of their own (docstring of "
          "lengthwise.engine.decoding_mode.DecodingMode)"),
    _role("start_mode", decoders.check_decoder_batch,
          "what `start_mode` returns is the state of one request"),
    _role("start_verifier", verifiers.check_verifier_path,
          "`walk` returns the accepted nodes, the root 0 first and each a child of the one before, "
          "and a token of the vocabulary (docstring of "
          "lengthwise.engine.speculative.verification.Verifier)"),
    _role("start_verifier", verifiers.check_verifier_arguments,
          "`walk` may let `context` grow on its way and must cut it back; tree and logits are to "
          "be read"),
    _role("start_verifier", verifiers.check_verifier_text,
          "without drawn guesses, say what `Lossless` says; else declare `lossless` False, and "
          "give in `identity` a setting that does"),
    _role("start_policy", policies.check_policy_answers,
          "`draft_depth` returns a DraftDepth or None, `choose` as many trees as it was given "
          "(docstring of lengthwise.engine.speculative.draft_length.LengthPolicy)"),
    _role("start_policy", policies.check_policy_trees,
          "prune with `tree.keep(nodes)`: the root, and every parent of what stays"),
    _role("start_policy", policies.check_policy_draws,
          "keep all of `tree.drawn()`, whatever it costs"),
    _role("start_policy", policies.check_policy_arguments,
          "`tree.keep` makes a new tree: leave the one that was given as it is"),
)  # fmt: skip


@dataclass(frozen=True)
class _Nobody(Method):
    """Stands where a recipe needs a drafter, and guesses nothing."""

    name = "nobody"
    question = Question.DRAFTING
    paper = None

    def start_drafter(self, model: AdaptedModel) -> Drafter | None:
        return None


def overrides(cls: type[Method], hook: str) -> bool:
    """Whether a method answers a hook itself."""
    return getattr(cls, hook) is not getattr(Method, hook)


def refused(cls: type[Method], model: AdaptedModel) -> Refused | None:
    """Why a method cannot run on a model, where it cannot; beside a drafter, if it needs one."""
    decides = overrides(cls, "start_verifier") or overrides(cls, "start_policy")
    alone = overrides(cls, "start_drafter") or not decides
    try:
        resolve((cls.example(),) if alone else (_Nobody(), cls.example()), model)
    except Refused as refusal:
        return refusal
    return None


@dataclass(frozen=True)
class Check:
    """A check on the models of one family; called with a method, it raises ConformanceError."""

    kind: Kind
    family: str

    @property
    def name(self) -> str:
        return self.kind.name

    def __str__(self) -> str:
        return self.name if self.kind.needs else f"{self.name}-{self.family}"

    def __call__(self, method: MethodLike) -> None:
        """A model that refuses the method, with a way out, has nothing to check."""
        cls, model = class_of(method), law_model(self.family)
        refusal = refused(cls, model)
        if refusal is not None:
            if not refusal.remedy:
                laws.fail(cls, model, f"is refused without a way out: {refusal}")
            return
        try:
            self.kind.run(cls, model)
        except ConformanceError as error:
            raise ConformanceError(f"{error}\n  hint: {self.kind.hint}") from None


def class_of(method: MethodLike) -> type[Method]:
    """The class of a method that is given by name or itself. Raises RecipeError."""
    return find(method) if isinstance(method, str) else method


def checks_for(
    method: MethodLike, families: Seq[str] = FAMILIES
) -> Iterator[tuple[type[Method], Check]]:
    """Every check that a method is held to, with its class: `check(cls)` runs one.

    Args:
        method: a registered name, or a class.
        families: of the tiny models; checks of a role, and of prompting methods, run on the first
            of them alone.
    """
    cls = class_of(method)
    judges = overrides(cls, "start_verifier") or overrides(cls, "start_policy")
    dependent = judges and not overrides(cls, "start_drafter")
    # What a prompt is made of changes nothing in how it is read.
    before = cls.question == Question.PROMPTING
    for kind in KINDS:
        if kind.needs and not overrides(cls, kind.needs):
            continue
        if dependent and not kind.decides:
            continue
        if before and not kind.needs and kind.name != "refusals":
            continue
        for family in families[:1] if kind.needs or before else families:
            yield cls, Check(kind, family)


def expected_reason(check: Check, expected: Expected) -> str | None:
    """Why a check may fail, where that is said."""
    return expected.get(str(check), expected.get(check.name))


def parametrize_with_checks(
    methods: Seq[MethodLike],
    expected_failed: Mapping[str, Expected] | None = None,
    families: Seq[str] = FAMILIES,
) -> pytest.MarkDecorator:
    """A decorator for a pytest test that takes `method` and `check`, once for every check.

        @parametrize_with_checks([MyMethod])
        def test_conforms(method, check):
            check(method)

    Args:
        methods: registered names, or classes.
        expected_failed: reasons by check, by the name of the method; those are marked xfail.
        families: of the tiny models that methods are tried on.
    """
    import pytest

    cases: list[Any] = []
    for each in methods:
        for cls, check in checks_for(each, families):
            reason = expected_reason(check, (expected_failed or {}).get(cls.name, {}))
            marks = [] if reason is None else [pytest.mark.xfail(reason=reason)]
            cases.append(pytest.param(cls, check, marks=marks, id=f"{cls.name}-{check}"))
    return pytest.mark.parametrize(("method", "check"), cases)


__all__ = [
    "KINDS", "Check", "Kind", "checks_for", "parametrize_with_checks", "refused",
]  # fmt: skip
