"""Sets of layers are searched for, the better ones guess, and the text stays plain decoding's."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import lru_cache

import pytest
import torch
from click.testing import CliRunner

from lengthwise import recipes
from lengthwise.cli.calibrate import calibrate
from lengthwise.engine import loop
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.request import Request
from lengthwise.engine.sampling import Sampling
from lengthwise.engine.speculative.draft_length import Fixed
from lengthwise.engine.speculative.drafter_stats import DrafterStats
from lengthwise.errors import LengthwiseError, RecipeError
from lengthwise.methods.base import Method
from lengthwise.methods.drafting import swift as module
from lengthwise.methods.drafting._shared.layer_search import LayerSearch, matchness
from lengthwise.methods.drafting.swift import Swift
from lengthwise.methods.drafting.window import Retrieved, Window
from lengthwise.models.adapt import adapt
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.testing.tiny import tiny_model

VOCAB, LAYERS = 16, 6
CACHES = ["full", "streaming(sinks=2, window=24)", "snapkv(budget=20, window=8)",
          "think(ratio=0.5, recent=8, window=8)", "kivi(bits=4, group=8, residual=16)",
          "yarn(factor=2)", "infllm(budget=32, window=16, block=4, init=2)"]  # fmt: skip
SHORT = Swift(window=6, depth=4, skip=0.5, trials=20)


@lru_cache
def model(family: str = "llama") -> AdaptedModel:
    mixed = ["sliding_attention", "full_attention"] * (LAYERS // 2)
    types = {"layer_types": mixed} if family in ("gemma3_text", "gpt_oss") else {}
    return adapt(
        tiny_model(family, initializer_range=0.12, vocab_size=VOCAB, num_hidden_layers=LAYERS,
                   **types)
    )  # fmt: skip


def prompt(seed: int, count: int = 40) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(3, VOCAB, (count,), generator=generator).tolist()


def written(seed: int, *drafters: Method, recipe: str = "full", family: str = "llama",
            sampling: Sampling | None = None, new: int = 48) -> Request:  # fmt: skip
    target = model(family)
    made = tuple(lambda method=method: method.start_drafter(target) for method in drafters)
    sequence = Sequence(target, replace(recipes.resolve(recipe, target), drafters=made))
    request = loop.begin(sequence, sampling or Sampling(), new, ())
    loop.start(request, loop.prefill(sequence, prompt(seed)))
    for _ in loop.run(request, Fixed()):
        pass
    assert not any("failed" in note for note in loop.finish(request).notes)
    return request


@pytest.mark.parametrize("recipe", CACHES)
def test_the_text_is_that_of_plain_decoding_while_layers_are_searched_for(recipe) -> None:
    for sampling in (Sampling(), Sampling(temperature=0.9, seed=5)):
        plain = written(1, recipe=recipe, sampling=sampling)
        guessed = written(1, SHORT, recipe=recipe, sampling=sampling)
        assert guessed.output == plain.output and guessed.metrics.drafted
        assert re.search(r"tried \d+ sets of layers", " ".join(guessed.metrics.notes))


@pytest.mark.parametrize("family", ["gemma3_text", "phi", "gpt_oss", "gpt2"])
def test_families_keep_their_windows_sinks_and_partial_rotations(family) -> None:
    plain, guessed = written(2, family=family), written(2, SHORT, family=family)
    assert guessed.output == plain.output and guessed.metrics.drafted


@pytest.mark.parametrize("family", ["llama", "gemma3_text", "phi", "gpt2"])
def test_the_whole_model_chooses_what_it_said_and_others_do_not(family) -> None:
    target, ids = model(family), prompt(3)
    said = written(3, family=family, new=20).output
    before = Sequence(target)
    loop.prefill(before, ids)
    before.end_prefill()
    assert matchness(target, before, range(LAYERS), said) == 1
    assert matchness(target, before, (0, LAYERS - 1), said) < 1
    # What was read stays as it was.
    assert before.tokens == ids and matchness(target, before, range(LAYERS), said) == 1


def test_matchness_counts_the_tokens_that_a_shorter_model_chooses() -> None:
    """Where nothing was read before, a model of some layers is a model of its own."""
    from lengthwise.models.cut import cut_model

    target, kept, said = model(), (0, 2, 5), prompt(4, 24)
    logits = cut_model(target.model, kept)(torch.tensor([said])).logits[0]
    wanted = (logits.argmax(-1)[:-1] == torch.tensor(said[1:])).float().mean()
    assert matchness(target, Sequence(target), kept, said) == pytest.approx(float(wanted))


def test_a_search_keeps_the_best_and_both_ends() -> None:
    search, seen = LayerSearch(12, 5, seed=1), []
    for _ in range(60):
        kept = search.propose()
        assert {0, 11} <= set(kept) and len(kept) == 7 and kept == tuple(sorted(kept))
        seen.append((sum(kept) / 77, kept))
        search.tell(seen[-1][0])
    assert (search.score, search.kept) == max(seen, key=lambda each: each[0])
    assert search.left_out == ",".join(str(n) for n in range(12) if n not in search.kept)
    assert len({kept for _, kept in seen}) > 30


def test_a_search_beats_the_first_set_and_ends() -> None:
    drafter = replace(SHORT, trials=200, enough=0.6).start_drafter(model())
    target, said = model(), written(6, new=12).output[:7]
    before = Sequence(target)
    loop.prefill(before, prompt(6))
    before.end_prefill()
    first = matchness(target, before, drafter.search.kept, said)
    drafter.runner, drafter._before = drafter.open(before), before
    while drafter._before is not None:
        drafter._try(before, said)
    assert drafter.search.score >= max(first, 0.6) or drafter.search.tried == 200
    assert drafter.search.kept == drafter.runner.kept


@pytest.mark.parametrize(("interval", "dear"), [(None, True), (3, False)])
def test_a_trial_is_no_part_of_the_usual_time_of_a_level(monkeypatch, interval, dear) -> None:
    """Levels take 1, trials 100, by a clock that nothing else moves."""
    now, stats, score = [0.0], DrafterStats(), module.LayerSkipScorer.score

    class Billing(Fixed):
        def drafted(self, load: object, drafter: object, levels: int, seconds: float) -> None:
            stats.note_time(levels, seconds)

    def scored(self, *given: object, **named: object) -> torch.Tensor:
        now[0] += 1
        return score(self, *given, **named)

    def tried(*given: object) -> float:
        now[0] += 100
        return 0.0

    monkeypatch.setattr(module.LayerSkipScorer, "score", scored)
    monkeypatch.setattr(module, "matchness", tried)
    options = {} if interval is None else {"interval": interval}
    method, policy = Swift(window=4, depth=2, skip=0.5, **options), Billing()
    policy.clock = lambda: now[0]
    target = model()
    plan = replace(
        recipes.resolve("full", target), drafters=(lambda: method.start_drafter(target),)
    )
    request = loop.begin(Sequence(target, plan), Sampling(), 48, ())
    loop.start(request, loop.prefill(request.sequence, prompt(1)))
    for _ in loop.run(request, policy):
        pass
    assert request.drafters[0].search.tried > 2
    assert stats.level_seconds > 10 if dear else stats.level_seconds == 1


@pytest.mark.parametrize(("layers", "skipped"), [(1, 0), (2, 0), (3, 1), (6, 4)])
def test_no_more_layers_are_left_out_than_there_are_between_the_ends(layers, skipped) -> None:
    assert LayerSearch(layers, 99).skipped == skipped


def test_calibrate_prints_the_layers_to_leave_out(tmp_path, monkeypatch) -> None:
    import lengthwise
    from lengthwise.cli import calibrate as module

    tiny = lengthwise.wrap(
        tiny_model("llama", initializer_range=0.12, vocab_size=VOCAB, num_hidden_layers=LAYERS)
    )
    monkeypatch.setattr(module.ModelChoice, "open", lambda _: tiny)
    monkeypatch.setattr(
        tiny, "encode", lambda given, *_: prompt(7, 700) if isinstance(given, str) else list(given)
    )
    found = CliRunner().invoke(calibrate, ["layers", "--skip", "0.5", "--trials", "6"])
    assert found.exit_code == 0, found.output
    skip = re.search(r'layers\(skip="([\d,]+)"\): 2 of 6', found.output)
    assert skip and recipes.resolve(f'layers(skip="{skip[1]}")', tiny.adapted).drafters
    none = CliRunner().invoke(calibrate, ["layers", "--skip", "0"])
    assert isinstance(none.exception, LengthwiseError) and "leaves out none" in str(none.exception)
    out = CliRunner().invoke(calibrate, ["layers", "-o", str(tmp_path / "x")])
    assert isinstance(out.exception, LengthwiseError) and "has no use for it" in str(out.exception)
    draft = CliRunner().invoke(calibrate, ["razor", "--skip", "0.3"])
    assert isinstance(draft.exception, LengthwiseError) and "--skip is for" in str(draft.exception)


def test_the_retrieval_cache_holds_the_chunks_the_last_query_agrees_with() -> None:
    target, ids = model(), prompt(8, 45)
    sequence = Sequence(target)
    sequence.remember(1)
    loop.prefill(sequence, ids)
    keys = [group.near.read().key.clone() for _, group in sequence.groups()]
    queries = [layer.last_queries()[:, -1].clone() for layer in sequence.layers]
    fork = sequence.fork(replace(sequence.plan, retention=lambda: Retrieved(19, 4)))
    fork.end_prefill()
    for key, query, (_, group) in zip(keys, queries, fork.groups(), strict=True):
        kept = group.near.index()
        for head in range(len(key)):
            per = len(query) // len(key)
            scores = [
                float(
                    key[head, 4 * c : 4 * c + 4].mean(0)
                    @ query[head * per : head * per + per].sum(0)
                )
                for c in range(11)
            ]
            best = sorted(range(1, 11), key=lambda c: -scores[c])[:3]
            wanted = sorted([0, *best])
            assert kept[head].tolist() == [4 * c + i for c in wanted for i in range(4)] + [44]


def test_guesses_from_the_retrieval_cache_change_no_text() -> None:
    for recipe in ("full", "snapkv(budget=20, window=8)", "kivi(bits=4, group=8, residual=16)"):
        method = Window(retrieved=16, chunk=4, depth=3)
        plain, guessed = written(9, recipe=recipe), written(9, method, recipe=recipe)
        assert guessed.output == plain.output and guessed.metrics.accepted["window"]


@pytest.mark.parametrize(
    ("options", "words"),
    [({"retrieved": 4}, "at least one chunk of 8"),
     ({"retrieved": 64, "recipe": "snapkv"}, "retrieved and recipe")],
)  # fmt: skip
def test_what_the_guesses_see_is_said_once(options, words) -> None:
    with pytest.raises(RecipeError, match=words):
        Window(**options)
