"""Drafting models: in bfloat16, made before the run, held by name, and never held against stock."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch

import lengthwise
from lengthwise import recipes
from lengthwise.engine import loop
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.request import Request
from lengthwise.engine.sampling import Sampling
from lengthwise.engine.speculative import loading as guessing_models
from lengthwise.engine.speculative.draft_length import Fixed, LengthPolicy
from lengthwise.engine.speculative.loading import HELD, drafting_model
from lengthwise.errors import LengthwiseError, ModelError, Refused, UnsupportedModel
from lengthwise.methods.base import Method
from lengthwise.methods.draft_length._shared.acceptance_head import train
from lengthwise.methods.drafting._shared.layer_subset import layer_subset
from lengthwise.methods.drafting.layers import Layers
from lengthwise.methods.drafting.model import SecondModel
from lengthwise.methods.drafting.osd import OSD
from lengthwise.methods.drafting.rasd import Rasd
from lengthwise.methods.drafting.rsd import RSD
from lengthwise.models import verify as verification
from lengthwise.models.adapt import adapt
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.testing.tiny import tiny_model

ASKING = (
    "layers(keep=1)", 'rsd(draft="layers(keep=1)")', "osd(layers=1, every=0)", "rasd(layers=1)",
    "rapid", "window(sinks=2, window=8)", "osd(layers=1, every=1)",
)  # fmt: skip
PROMPT = [5, 9, 12, 7, 5, 9, 12, 7, 30, 5, 9, 12]


@lru_cache
def model(dtype: torch.dtype = torch.bfloat16) -> AdaptedModel:
    """Attention so sharp, and words so few, that some guesses come true."""
    tiny = tiny_model("llama", initializer_range=0.15, vocab_size=64, num_hidden_layers=2)
    return adapt(tiny.to(dtype))


def generate(
    recipe: str,
    target: AdaptedModel,
    new: int = 24,
    policy: LengthPolicy | None = None,
    **sampling: Any,
) -> Request:
    plan = recipes.resolve(recipe, target)
    sequence = Sequence(target, plan, expected=len(PROMPT) + new)
    request = loop.begin(sequence, Sampling(**sampling), new, ())
    loop.start(request, loop.prefill(sequence, PROMPT))
    for _ in loop.run(request, policy or Fixed()):
        pass
    loop.finish(request)
    return request


@pytest.fixture
def strict(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounding as that of a machine where nothing but the whole model passes its comparison."""
    whole, verify = model().model, verification.verify

    def only_the_whole(adapted: AdaptedModel) -> verification.Verifier:
        if adapted.model is not whole:
            raise UnsupportedModel(adapted.family, "its logits differ by 0.25 of their spread")
        return verify(adapted)

    monkeypatch.setattr(verification, "verify", only_the_whole)
    # Models that other tests have made passed another comparison.
    monkeypatch.setattr("lengthwise.methods.drafting._shared.layer_subset._THINNED", {})
    monkeypatch.setattr("lengthwise.methods.drafting.osd._TRAINERS", {})


@pytest.mark.parametrize("recipe", ASKING)
def test_who_asks_a_model_guesses_and_is_accepted_in_the_default_dtype(
    recipe: str, strict: None
) -> None:
    request = generate(recipe, model())
    notes = " ".join(request.metrics.notes)
    assert "failed" not in notes
    assert request.metrics.drafted > 0
    assert sum(request.metrics.accepted.values()) > 0


def test_a_second_model_whose_rounding_differs_guesses_and_says_so(
    strict: None, tmp_path: Path
) -> None:
    other = tiny_model("llama", initializer_range=0.15, vocab_size=64, num_hidden_layers=2)
    path = drafting_model(other.to(torch.bfloat16))
    request = generate(f"model(path={path})", model())
    assert request.metrics.accepted["model"] > 0
    assert "may guess badly: its logits differ by 0.25" in " ".join(request.metrics.notes)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["layers", "rsd", "osd(every=0)", "rasd", "rapid", "window"])
def test_who_asks_a_model_is_accepted_on_the_embedded_model(recipe: str) -> None:
    found = embedded().generate(
        "List the days of the week, one a line, twice.", recipe, max_new_tokens=24
    )
    assert not any("failed" in note for note in found.metrics.notes)
    assert sum(found.metrics.accepted.values()) > 0


@lru_cache
def embedded() -> lengthwise.Model:
    return lengthwise.load(dtype="bfloat16")


@pytest.mark.parametrize(
    "method",
    [Layers(keep="1"), Rasd(layers="1"), OSD(layers="1"), RSD(draft="layers(keep=1)")],
    ids=lambda method: method.name,
)
def test_check_makes_what_the_run_will_ask(method: Method) -> None:
    with pytest.raises(Refused, match="some layers of this 'longcat_flash' model cannot guess"):
        method.check(adapt(tiny_model("longcat_flash")))


def test_layers_whose_logits_are_not_finite_are_refused_before_the_run() -> None:
    tiny = tiny_model("llama", num_hidden_layers=2)
    tiny.model.layers[0].mlp.down_proj.weight.data[0, 0] = torch.nan  # type: ignore[union-attr, operator, index]
    broken = adapt(tiny, fuse=False, verify=False)
    with pytest.raises(Refused, match="logits are not finite"):
        Layers(keep="1").check(broken)
    assert layer_subset(broken, (1,)).layers


@pytest.mark.parametrize(
    "method", [Layers(keep="1"), Rasd(layers="1"), OSD(layers="1"), RSD(draft="layers(keep=1)")],
    ids=lambda method: method.name,
)  # fmt: skip
def test_an_acceptance_head_is_trained_on_what_the_drafter_asks(
    method: Method, strict: None
) -> None:
    drafter: Any = method.start_drafter(model())
    assert drafter.draft is layer_subset(model(), (0,))
    head = train(drafter.draft, model(), [PROMPT, PROMPT[::-1]], steps=2)
    assert head.draft != head.target


# Models that are given.


def given(**changes: Any) -> Any:
    settings = {"initializer_range": 0.15, "vocab_size": 64, "num_hidden_layers": 2, **changes}
    return tiny_model("llama", **settings)


@pytest.mark.parametrize("kind", ["transformers", "adapted", "lengthwise"])
def test_a_model_that_is_given_guesses(kind: str) -> None:
    small = given()
    weights = [parameter.data_ptr() for parameter in small.parameters()]
    held = {"transformers": lambda: small, "adapted": lambda: adapt(small, fuse=False),
            "lengthwise": lambda: lengthwise.wrap(small, fuse=False)}[kind]()  # fmt: skip
    path = drafting_model(held)
    assert drafting_model(held) == path
    request = generate(f"model(path={path}, depth=4, width=1)", model(torch.float32))
    # The same weights as the target's: every guess is right.
    assert request.metrics.steps == -(-23 // 5) and request.metrics.accepted["model"] > 15
    assert "compared by size alone (64)" in " ".join(request.metrics.notes)
    assert [parameter.data_ptr() for parameter in small.parameters()] == weights


@pytest.mark.parametrize("method", ["osd(path={}, every=0)", "rasd(path={})", "rapid(path={})"])
def test_every_drafter_that_takes_a_path_takes_a_model_that_is_given(method: str) -> None:
    request = generate(method.format(drafting_model(given(), "small")), model(torch.float32))
    assert sum(request.metrics.accepted.values()) > 0
    assert "compared by size alone" in " ".join(request.metrics.notes)


def test_an_assistant_model_is_taken_as_it_is() -> None:
    target = lengthwise.wrap(given())
    plain = target.generate(PROMPT, max_new_tokens=20, stop_ids=[])
    for assistant in (given(), target, target.adapted.model, given(seed=3)):
        found = target.generate(
            PROMPT, "fixed(nodes=4)", max_new_tokens=20, stop_ids=[], assistant_model=assistant
        )
        assert found.token_ids == plain.token_ids
        assert found.metrics.drafted > 0
        assert not any("failed" in note for note in found.metrics.notes)
    with pytest.raises(LengthwiseError, match="type str: give a transformers model"):
        target.generate(PROMPT, assistant_model="a/path")


def test_vocabularies_of_other_sizes_are_refused_where_a_tokenizer_is_missing() -> None:
    path = drafting_model(given(vocab_size=60))
    for method in (SecondModel(path=path), OSD(path=path), Rasd(path=path)):
        with pytest.raises(
            Refused, match=r"without a tokenizer and the sizes differ \(64 and 60\)"
        ):
            method.check(model(torch.float32))


def test_a_dtype_that_the_given_model_has_not_is_refused() -> None:
    with pytest.raises(Refused, match=r"is in torch\.float32"):
        SecondModel(path=drafting_model(given()), dtype="bfloat16").check(model(torch.float32))


def test_the_latest_models_are_held_and_named_ones_for_good() -> None:
    named = drafting_model(given(), "for_good")
    paths = [drafting_model(given()) for _ in range(HELD + 1)]
    target = model(torch.float32)
    with pytest.raises(ModelError, match="no such model is held"):
        SecondModel(path=paths[0]).check(target)
    for path in (named, *paths[1:]):
        SecondModel(path=path).check(target)
    with pytest.raises(LengthwiseError, match="letters, digits and _ alone"):
        drafting_model(given(), "a name")
    assert len(guessing_models._MODELS) <= HELD + 2


def test_a_given_model_prints_and_parses_as_a_recipe() -> None:
    path = drafting_model(given(), "printed")
    (method,) = recipes.parse(f"model(path={path})").methods
    assert str(method) == f"model(path={path})" and path == "given:printed"
