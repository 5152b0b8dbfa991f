"""EAD: two models write one text, and at either end it is one model's alone."""

from collections.abc import Iterator

import pytest
import torch

import lengthwise
from lengthwise.api.model import Model
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.loop import prefill
from lengthwise.errors import Refused
from lengthwise.methods.decoding.ead import EAD, Switch, entropy
from lengthwise.plugin import Sampling
from lengthwise.testing.tiny import tiny_model, tokens

NEW = 24


@pytest.fixture(scope="module")
def small() -> Model:
    return lengthwise.wrap(tiny_model("llama", initializer_range=0.15, num_hidden_layers=1))


@pytest.fixture(scope="module")
def large() -> Model:
    return lengthwise.wrap(tiny_model("qwen3", initializer_range=0.15))


@pytest.fixture(scope="module")
def path(large: Model) -> Iterator[str]:
    yield lengthwise.drafting_model(large, "ead_large")


def write(model: Model, recipe: str = "full") -> lengthwise.Generation:
    return model.generate(tokens(40), recipe, max_new_tokens=NEW, stop_ids=[])


def test_at_either_end_it_is_one_model_alone(small: Model, large: Model, path: str) -> None:
    alone, other = write(small), write(large)
    assert alone.token_ids != other.token_ids
    never = write(small, f"ead(model={path}, threshold=64, first=0)")
    assert never.token_ids == alone.token_ids
    always = write(small, f"ead(model={path}, threshold=0)")
    assert always.token_ids == other.token_ids
    assert always.metrics.figures["ead: share of tokens by the second model"] == 1
    assert always.metrics.kv_bytes > alone.metrics.kv_bytes


def test_the_large_model_begins_and_catches_up(small: Model, large: Model, path: str) -> None:
    found = write(small, f"ead(model={path}, threshold=60, first=3, hold=3)")
    assert found.token_ids[:3] == write(large).token_ids[:3]
    rest = small.generate([*tokens(40), *found.token_ids[:3]], max_new_tokens=NEW - 3, stop_ids=[])
    assert found.token_ids[3:] == rest.token_ids
    assert found.metrics.figures["ead: switches"] == 1


def test_what_is_caught_up_is_what_is_read_anew(small: Model, large: Model, path: str) -> None:
    law = EAD(model=path, first=0).start_law(small.adapted)
    assert law is not None
    law.begin(_read(small), Sampling(), NEW, ())
    behind = tokens(9, 4)
    found = law.route(True, torch.zeros(small.adapted.vocab_size), behind)
    with torch.no_grad():
        stock = large.adapted.model(torch.tensor([[*tokens(40), *behind]])).logits[0, -1]
    torch.testing.assert_close(found, stock, atol=1e-4, rtol=1e-4)
    assert law.figures["ead: tokens that it read to catch up"] == 8


def _read(model: Model) -> Sequence:
    sequence = Sequence(model.adapted)
    prefill(sequence, tokens(40))
    return sequence


def test_who_writes_follows_the_entropies_and_stays(small: Model, path: str) -> None:
    options = EAD(model=path, threshold=1.0, window=2, hold=3, first=2)
    law = Switch(options, small.adapted, small.adapted)
    law.begin(_read(small), Sampling(), NEW, ())
    said = []
    for place, bits in enumerate((0, 0, 0, 0, 3, 3, 3, 3, 0, 0, 0, 0)):
        # A law of so many bits over eight tokens.
        scores = torch.full((small.adapted.vocab_size,), float("-inf"))
        scores[: 2**bits] = 0
        law.route = lambda large, scores, written: said.append(large) or scores  # type: ignore
        law.process(scores, [0] * place)
    # Large for two and held for three; small until the mean of two reaches 1; then large again.
    assert said == [True] * 3 + [False] * 3 + [True] * 4 + [False] * 2


def test_entropies_are_in_bits() -> None:
    assert entropy(torch.zeros(8)) == pytest.approx(3)
    assert entropy(torch.tensor([0.0, 0.0, float("-inf")])) == pytest.approx(1)


def test_switches_fall_with_the_window_and_the_stay(small: Model, path: str) -> None:
    def switches(window: int, hold: int) -> float:
        recipe = f"ead(model={path}, threshold=6.5, window={window}, hold={hold}, first=1)"
        return write(small, recipe).metrics.figures["ead: switches"]

    assert switches(1, 1) >= switches(1, 6) and switches(1, 1) >= switches(8, 1)


def test_rows_of_a_batch_are_what_they_are_alone(small: Model, path: str) -> None:
    recipe = f"streaming(sinks=2, window=24) + ead(model={path}, threshold=5)"
    texts, asked = [tokens(40), tokens(31)], {"max_new_tokens": NEW, "stop_ids": []}
    batch = small.generate_batch(texts, recipe, **asked)
    for text, one in zip(texts, batch, strict=True):
        assert one.token_ids == small.generate(text, recipe, **asked).token_ids


def test_what_cannot_be_is_refused(small: Model, path: str) -> None:
    with pytest.raises(Refused, match="no second one is named"):
        small.plan("ead")
    with pytest.raises(Refused, match="depends on when it is asked"):
        small.plan(f"lookup + ead(model={path})")
    other = lengthwise.drafting_model(lengthwise.wrap(tiny_model("llama", vocab_size=99)), "other")
    with pytest.raises(Refused, match="sizes differ"):
        small.plan(f"ead(model={other})")
