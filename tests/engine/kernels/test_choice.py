"""Which kernel serves: what was timed, an override, and bad ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from lengthwise.engine.kernels import choice, tuning
from lengthwise.engine.kernels.choice import KERNELS, Shape, chosen, order, read, remember, using
from lengthwise.engine.kernels.kernel import BLOCK
from lengthwise.engine.kernels.products import PRODUCTS, VALUE_PRODUCTS
from lengthwise.errors import LengthwiseError
from lengthwise.models.adapt import adapt
from lengthwise.testing.tiny import tiny_model

SHAPE = Shape("cpu", torch.float32, 4, 2, 16)


@pytest.fixture(autouse=True)
def nothing_timed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(choice, "_TIMED", {})
    monkeypatch.setattr(choice, "_SPOTS", {})
    monkeypatch.delenv(choice.VARIABLE, raising=False)
    yield


def asked(rows: int, keys: int, heads: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.empty(heads, rows, 16), torch.empty(2, keys, 16)


def test_every_kernel_has_its_place_in_the_order() -> None:
    assert set(KERNELS["block"]) == set(BLOCK) and set(KERNELS["scores"]) == set(PRODUCTS)
    assert set(KERNELS["values"]) == set(VALUE_PRODUCTS)


def test_where_nothing_was_timed_the_first_name_serves() -> None:
    for question, names in KERNELS.items():
        assert order(question, *asked(5, 7)) == names


def test_the_fastest_of_what_was_timed_nearest_serves() -> None:
    remember("block", SHAPE, {
        (16, 256): {"flash": 1.0, "rows": 0.5, "products": 2.0},
        (1024, 4096): {"flash": 1.0, "rows": 3.0, "products": 2.0},
    })  # fmt: skip
    assert chosen("block", *asked(16, 256)) == "rows"
    assert chosen("block", *asked(9, 100)) == "rows"
    assert chosen("block", *asked(1000, 4000)) == "flash"
    assert chosen("block", *asked(2000, 60_000)) == "flash"
    assert order("block", *asked(1000, 4000))[:3] == ("flash", "products", "rows")
    assert sorted(order("block", *asked(1000, 4000))) == sorted(KERNELS["block"])


def test_a_shape_that_was_not_timed_goes_by_the_one_most_like_it() -> None:
    remember("block", SHAPE, {(16, 256): {"flash": 1.0, "rows": 0.5}})
    remember("block", replace(SHAPE, heads=32, key_heads=8), {(16, 256): {"flash": 1, "rows": 2}})
    assert chosen("block", *asked(16, 256, heads=2)) == "rows"
    assert chosen("block", *asked(16, 256, heads=24)) == "flash"


def test_another_dtype_or_question_says_nothing() -> None:
    remember("block", replace(SHAPE, dtype=torch.bfloat16), {(16, 256): {"flash": 1, "rows": 0.5}})
    remember("step", SHAPE, {(16, 256): {"flash": 1.0, "products": 0.5}})
    assert chosen("block", *asked(16, 256)) == KERNELS["block"][0]


def test_what_is_hardly_faster_does_not_win() -> None:
    remember("block", SHAPE, {(16, 256): {"flash": 1.0, "rows": 0.97}})
    assert chosen("block", *asked(16, 256)) == "flash"
    remember("block", SHAPE, {(16, 256): {"flash": 1.0, "rows": 0.9}})
    assert chosen("block", *asked(16, 256)) == "rows"


def test_an_override_is_first_and_ends_with_its_block(monkeypatch: pytest.MonkeyPatch) -> None:
    remember("block", SHAPE, {(16, 256): {"flash": 1.0, "rows": 0.5}})
    monkeypatch.setenv(choice.VARIABLE, "products")
    assert chosen("block", *asked(16, 256)) == chosen("step", *asked(1, 9)) == "products"
    assert chosen("scores", *asked(1, 9)) == "wide"
    with using("block=flash, narrow"):
        assert chosen("block", *asked(16, 256)) == "flash"
        assert chosen("scores", *asked(1, 9)) == "narrow"
        assert chosen("step", *asked(1, 9)) == "varlen"
    assert chosen("block", *asked(16, 256)) == "products"
    with using("default"):
        assert chosen("block", *asked(16, 256)) == KERNELS["block"][0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("flsh", "did you mean flash"),
        ("step=rows", "kernel 'step=rows'"),
        ("block:flash", "kernel 'block:flash'"),
        ("steps=flash", "kernel 'steps=flash'"),
    ],
)
def test_a_kernel_that_is_none_is_refused_by_name(text: str, said: str) -> None:
    with pytest.raises(LengthwiseError, match=said) as error:
        read(text)
    assert "\n" not in str(error.value) and "flash" in str(error.value)


def test_a_small_model_is_not_timed() -> None:
    assert tuning.tune(adapt(tiny_model("llama"))) is None


def test_tuning_times_every_question_and_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setenv("LENGTHWISE_CACHE", str(tmp_path))
    monkeypatch.setattr(tuning, "SMALL", 0)
    for name in ("BLOCKS", "STEPS", "SCORES", "VALUES"):
        monkeypatch.setattr(tuning, name, ((16, 32),))
    model = adapt(tiny_model("llama"))
    before = torch.get_rng_state()
    timings = tuning.tune(model)
    assert torch.equal(torch.get_rng_state(), before), "the user's random numbers are the user's"
    assert timings is not None and timings.path.is_file()
    found = list(tuning.timed(tuning.shape_of(model)))
    # Where Triton does not run, there is nothing to choose: keys are copied, groups take turns.
    assert {row.question for row in found} == KERNELS.keys() - {"chosen", "coded", "groups"}
    for row in found:
        assert set(row.seconds) <= set(KERNELS[row.question]) and min(row.seconds.values()) > 0
        assert "plain" not in row.seconds and row.chosen in row.seconds and row.rate > 0
    assert tuning.tune(model) is None  # it is known in this process
    monkeypatch.setattr(choice, "_TIMED", {})
    again = tuning.tune(model)
    assert again is not None and list(tuning.timed(tuning.shape_of(model))) == found
    with using("default"):
        assert tuning.tune(model, again=True) is None  # nothing is left open
