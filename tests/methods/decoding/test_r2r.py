"""R2R: labels, the router and its file, and two models that write one text."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import lengthwise
from lengthwise.api.model import Model
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.loop import prefill
from lengthwise.errors import LengthwiseError, Refused
from lengthwise.methods.calibration import fingerprint
from lengthwise.methods.decoding import token_router
from lengthwise.methods.decoding.divergence import Places, answers, places, rejoins
from lengthwise.methods.decoding.r2r import R2R, Route
from lengthwise.methods.decoding.token_router import (
    Fit,
    TokenRouter,
    area,
    threshold_for,
    train,
)
from lengthwise.plugin import Sampling
from lengthwise.testing.tiny import tiny_model, tokens

NEW = 20


@pytest.fixture(scope="module")
def small() -> Model:
    return lengthwise.wrap(tiny_model("llama", initializer_range=0.15, num_hidden_layers=1))


@pytest.fixture(scope="module")
def large() -> Model:
    return lengthwise.wrap(tiny_model("qwen3", initializer_range=0.15))


@pytest.fixture(scope="module")
def path(large: Model) -> Iterator[str]:
    yield lengthwise.drafting_model(large, "r2r_large")


@pytest.fixture(scope="module")
def router(small: Model, large: Model) -> TokenRouter:
    hidden = small.adapted.model.config.hidden_size
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        found = TokenRouter(hidden, hidden, 100, width=8, blocks=1)
    found.small, found.large = fingerprint(small.adapted), fingerprint(large.adapted)
    return found


@pytest.fixture(scope="module")
def file(router: TokenRouter, tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("router") / "router.safetensors"
    token_router.save(router, found)
    return found


def write(model: Model, recipe: str = "full") -> lengthwise.Generation:
    return model.generate(tokens(40), recipe, max_new_tokens=NEW, stop_ids=[])


def test_at_either_end_it_is_one_model_alone(
    small: Model, large: Model, path: str, file: Path
) -> None:
    alone, other = write(small).token_ids, write(large).token_ids
    for router in ("", f', router="{file}"'):
        assert write(small, f"r2r(model={path}{router}, threshold=1)").token_ids == alone
        assert write(small, f"r2r(model={path}{router}, threshold=0)").token_ids == other


def test_the_router_sees_the_state_of_each_step(
    small: Model, path: str, router: TokenRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    law = Route(R2R(model=path, threshold=0.9), small.adapted, small.adapted, router)
    sequence = Sequence(small.adapted)
    sequence.noted = []
    prefill(sequence, tokens(40))
    law.begin(sequence, Sampling(), NEW, ())
    law.state = None
    torch.testing.assert_close(law._state([]), sequence.noted[-1][-1], atol=1e-5, rtol=1e-4)
    seen: list[tuple[list[int], torch.Tensor]] = []
    asked = Route._state

    def state(self: Route, written: list[int]) -> torch.Tensor:
        assert self.state is not None
        seen.append((list(written), asked(self, written).clone()))
        return seen[-1][1]

    monkeypatch.setattr(Route, "_state", state)
    monkeypatch.setattr(R2R, "trained", lambda *_: router)
    found = small.generate_batch(
        [tokens(40), tokens(30)],
        [f"r2r(model={path}, threshold=0.5)", "lookup"],
        max_new_tokens=6,
        stop_ids=[],
    )[0]
    assert [written for written, _ in seen] == [found.token_ids[:n] for n in range(6)]
    for written, given in seen:
        sequence = Sequence(small.adapted)
        sequence.noted = []
        prefill(sequence, [*tokens(40), *written])
        torch.testing.assert_close(given, sequence.noted[-1][-1], atol=1e-4, rtol=1e-3)


def test_cost_is_counted(small: Model, path: str, file: Path) -> None:
    figures = write(small, f'r2r(model={path}, router="{file}", threshold=0.45)').metrics.figures
    share = figures["r2r: share of tokens by the second model"]
    sizes = [sum(p.numel() for p in m.parameters()) for m in (
        small.adapted.model, R2R(model=path).load(small.adapted).model, token_router.load(file)
    )]  # fmt: skip
    assert figures["r2r: active parameters a token, as the paper counts"] == pytest.approx(
        sizes[0] + sizes[2] + share * sizes[1]
    )


def test_two_ways_are_one_again_where_the_end_of_one_stands_in_the_other() -> None:
    assert rejoins([9, 1, 2, 3, 4], [1, 2, 3, 4, 5], 3)
    assert not rejoins([9, 1, 2, 3, 5], [1, 2, 3, 4, 5], 3)
    assert not rejoins([9, 9], [9, 9], 3)


def test_places_are_labelled_by_what_the_large_model_goes_on_with(
    small: Model, large: Model
) -> None:
    prompt = tokens(24)
    said, shorter = answers(large.adapted, [prompt, prompt[:9]], 24)
    alone = large.generate(prompt[:9], max_new_tokens=24, stop_ids=[])
    assert shorter == alone.token_ids
    assert said == large.generate(prompt, max_new_tokens=24, stop_ids=[]).token_ids
    found = places(small.adapted, large.adapted, prompt, said, horizon=6, same=2)
    assert len(found) == 22 and found.differs.any()
    assert not (found.diverges & ~found.differs).any()
    for n in found.differs.nonzero()[:4, 0].tolist():
        word = int(found.tokens[n])
        other = large.generate([*prompt, *said[:n], word], max_new_tokens=6, stop_ids=[]).token_ids
        assert bool(found.diverges[n]) == (not rejoins([word, *other], said[n : n + 12], 2))
    itself = places(large.adapted, large.adapted, prompt, said)
    assert not itself.differs.any() and not itself.diverges.any()


def _places(count: int, seed: int) -> Places:
    noise = torch.Generator().manual_seed(seed)
    states = torch.randn(count, 6, generator=noise)
    words = torch.randint(0, 9, (count,), generator=noise)
    diverges = states[:, 0] + (words == 3) > 0.8
    return Places(states, words, torch.randn(count, 5, generator=noise), diverges, diverges)


def test_a_router_learns_and_its_threshold_catches_what_was_asked() -> None:
    table = torch.randn(9, 6, generator=torch.Generator().manual_seed(9))

    def embed(ids: torch.Tensor) -> torch.Tensor:
        return table[ids]

    seen, held_out, fresh = (_places(n, seed) for seed, n in enumerate((600, 200, 300)))
    router = train(seen, held_out, embed, width=16, blocks=1, how=Fit(epochs=20, batch=64))
    assert area(router.probs(fresh.states, embed(fresh.tokens), fresh.logits), fresh.diverges) > 0.9
    prob = router.probs(held_out.states, embed(held_out.tokens), held_out.logits)
    caught = (prob >= router.threshold)[held_out.diverges].float().mean()
    assert 0.95 <= caught < 1
    with pytest.raises(LengthwiseError, match="needs both kinds"):
        train(Places(*(each[:0] for each in vars(seen).values())), held_out, embed)


def test_thresholds_and_areas() -> None:
    probs = torch.tensor([0.1, 0.9, 0.5, 0.3])
    diverges = torch.tensor([False, True, True, False])
    assert threshold_for(probs, diverges, 0.95) == 0.5
    assert threshold_for(probs, diverges, 0.5) == pytest.approx(0.9)
    assert area(probs, diverges) == 1 and area(-probs, diverges) == 0


def test_files_are_read_back_and_others_are_refused(
    small: Model, large: Model, path: str, router: TokenRouter, file: Path, tmp_path: Path
) -> None:
    found = token_router.load(file)
    assert found.shape == router.shape and found.threshold == router.threshold
    for name, weight in router.state_dict().items():
        assert torch.equal(weight, found.state_dict()[name])
    with pytest.raises(Refused, match="another small model"):
        large.plan(f'r2r(model={path}, router="{file}")')
    (tmp_path / "cut").write_bytes(file.read_bytes()[:90])
    with pytest.raises(LengthwiseError, match="cannot be read"):
        small.plan(f'r2r(model={path}, router="{tmp_path / "cut"}")')
    with pytest.raises(LengthwiseError, match="cannot be read"):
        small.plan(f"r2r(model={path}, router=nowhere)")
    with pytest.raises(Refused, match="none is named"):
        small.plan(f"r2r(model={path})")
    with pytest.raises(Refused, match="no second one is named"):
        small.plan("r2r")
