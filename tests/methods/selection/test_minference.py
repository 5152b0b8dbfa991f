"""MInference: its laws, that only prompts are read by patterns, and the search for them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from lengthwise.cli.bars import Bar
from lengthwise.cli.calibrate import MINFERENCE
from lengthwise.cli.calibrators import Asked
from lengthwise.engine.attention.attend import Part
from lengthwise.engine.attention.scores import attend_plain
from lengthwise.engine.kernels import blocks
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.loop import prefill
from lengthwise.engine.plan import FULL
from lengthwise.errors import RecipeError, Refused
from lengthwise.methods import calibration
from lengthwise.methods.selection import minference, pattern_search
from lengthwise.methods.selection.minference import LineReader, MInference
from lengthwise.methods.selection.pattern_search import SPACE, best_of
from lengthwise.methods.selection.patterns import Estimate, Grid, Pattern, chosen_keys
from lengthwise.models.adapt import adapt
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.recipes import resolve
from lengthwise.testing.tiny import tiny, tiny_model, tokens
from tests.methods.selection.selection_runs import LENGTH, feed, read_all

SMALL: dict[str, Any] = {"block": 4, "last": 4, "first": 1, "nearest": 2}
PATTERNS = [
    MInference(pattern="vertical_slash", columns=4, distances=4, **SMALL),
    MInference(pattern="a_shape", columns=2, distances=6, **SMALL),
    MInference(pattern="block_sparse", blocks=3, **SMALL),
]


# Laws.


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt_oss", "phi"])
def test_all_columns_equal_full(family: str) -> None:
    model = tiny(family)
    method = MInference(pattern="vertical_slash", columns=LENGTH, **SMALL)
    found = read_all(model, resolve([method], model), tokens(LENGTH), 16, 8)
    full = read_all(model, FULL, tokens(LENGTH), LENGTH, 0)
    assert float((found - full).abs().max()) < 1e-4


@pytest.mark.parametrize("method", PATTERNS, ids=str)
@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt_oss"])
def test_chosen_keys_side_by_side_equal_a_mask(
    family: str, method: MInference, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny(family)
    plan = resolve([method], model)
    found = read_all(model, plan, tokens(LENGTH), 30, 0)
    full = read_all(model, FULL, tokens(LENGTH), LENGTH, 0)
    assert float((found - full).abs().max()) > 1e-3, "nothing was left out"
    monkeypatch.setattr(blocks, "attend", lambda asked: (blocks.plain(asked), 0))
    masked = read_all(model, plan, tokens(LENGTH), 30, 0)
    assert float((found - masked).abs().max()) < 1e-4


def test_a_block_reads_its_own_keys_and_a_column(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an A-shape of one column and one distance, all scores are known by hand."""
    model = tiny("llama")
    method = MInference(pattern="a_shape", columns=1, distances=1, **SMALL)
    seen: list[Tensor] = []
    asked = LineReader.asked

    def spy(self: LineReader, query: Tensor, key: Tensor, value: Tensor) -> Any:
        found = asked(self, query, key, value)
        seen.append(found.past(0))
        return found

    monkeypatch.setattr(LineReader, "asked", spy)
    feed(Sequence(model, resolve([method], model)), tokens(12))
    # Distance 0 reaches nothing before the block, so the first key alone is left.
    expected = torch.tensor([[False] * 8, [True] + [False] * 7, [True] + [False] * 7])
    assert len(seen) == len(model.layers)
    assert all(bool((past == expected).all()) for past in seen)


@pytest.mark.parametrize("method", PATTERNS, ids=str)
def test_decoding_reads_everything(method: MInference) -> None:
    model = tiny("llama")
    sequence = Sequence(model, resolve([method], model))
    feed(sequence, tokens(40))
    sequence.end_prefill()
    plain = sequence.fork()
    for layer in plain.layers:
        layer.groups[0].selector = None
    assert torch.equal(feed(sequence, [5]), feed(plain, [5]))
    assert sequence.nbytes() == plain.nbytes()


def test_first_layers_may_read_everything() -> None:
    model = tiny("llama")
    plan = resolve([MInference(pattern="a_shape", columns=1, distances=1, dense=99)], model)
    found = read_all(model, plan, tokens(LENGTH), 16, 8)
    assert float((found - read_all(model, FULL, tokens(LENGTH), 16, 8)).abs().max()) < 1e-5


def test_copies_are_part_of_the_peak() -> None:
    model = tiny("llama")
    bare, read = (Sequence(model, plan) for plan in (FULL, resolve([PATTERNS[0]], model)))
    for sequence in (bare, read):
        prefill(sequence, tokens(64))
    assert read.nbytes() == bare.nbytes() and read.peak_bytes > bare.peak_bytes


@pytest.mark.parametrize("codec", ["kivi(bits=4, group=8, residual=16)", "snapkv(budget=50%)"])
def test_what_acts_when_the_prompt_ends_goes_with_it(codec: str) -> None:
    model = tiny("llama")
    found = read_all(model, resolve(f"{PATTERNS[0]} + {codec}", model), tokens(LENGTH), 16, 4)
    assert bool(torch.isfinite(found).all())


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        ("h2o", "leaves most keys of a prompt unread"),
        ("hip", "both decide which keys a query reads"),
        ("dynamic_ntk(factor=2)", "turns them as the text grows"),
        ("self_extend", "needs every key near"),
    ],
)
def test_pairs_that_cannot_run_are_refused(recipe: str, said: str) -> None:
    with pytest.raises(Refused, match=said):
        resolve(f"{PATTERNS[0]} + {recipe}", tiny("llama"))


@pytest.mark.parametrize(
    "options",
    [{"columns": 10}, {"distances": 10}, {"pattern": "a_shape", "slack": 0.1},
     {"pattern": "a_shape", "space": "wide"},
     {"pattern": "vertical_slash", "blocks": 3}, {"pattern": "diagonal"}, {"slack": 1.5}],
)  # fmt: skip
def test_options_that_do_nothing_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match=f"minference: {list(options)[-1]}="):
        MInference(**options)


# The search.


def test_the_best_pattern_or_the_cheapest_that_is_nearly_as_good() -> None:
    mass, read = [0.9, 0.97, 0.98], [0.1, 0.2, 0.6]
    assert [best_of(mass, read, slack) for slack in (0, 0.02, 0.1)] == [2, 1, 0]


def test_scores_are_the_probability_on_what_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny("llama")
    space = (Pattern("a_shape", 2, 6), Pattern("vertical_slash", 4, 4), Pattern("block_sparse"))
    for name, value in {"SPACE": space, "CHUNK": 32, "BLOCK": 4, "EVERY": 4, "SHARE": 2}.items():
        monkeypatch.setattr(pattern_search, name, value)
    ids, seen = tokens(64), {}

    class Recorder(Sequence):
        def attend(self, layer, query, key, value, metadata):  # type: ignore[no-untyped-def]
            inputs = self.layers[layer]._inputs(query, key, value, metadata)
            mask, one = torch.ones(64, 64).tril().bool(), torch.eye(64).expand(2, -1, -1)
            scaling = self.model.layers[layer].scaling
            part = Part(inputs.near_query, inputs.near_key, one, mask)
            probs = attend_plain([part], scaling)[0]
            seen[layer] = inputs.near_query, inputs.near_key, probs
            return super().attend(layer, query, key, value, metadata)

    prefill(Recorder(model), ids)
    found = pattern_search.search_patterns(model, ids=ids)
    query, key, probs = seen[1]
    # Counting begins in the middle: blocks 11 (of the second chunk) and 15, by the chunk's lines.
    starts = [44, 60]
    for number, pattern in enumerate(space):
        patterns = [Pattern(pattern.kind, pattern.columns, pattern.distances, 8)] * 2
        for head in range(4):
            own = chosen_keys(patterns, query[head // 2 * 2 :][:2, 32:], key[head // 2],
                              Grid(32, 8, 4), Estimate(model.layers[1].scaling))  # fmt: skip
            mass, read = 0.0, 0.0
            for start in starts:
                keys = own[head % 2, (start - 32) // 4, :start]
                for i in range(start, start + 4):
                    row = probs[head, i]
                    mass += float(row[:start][keys].sum() + row[start:].sum()) / 8
                read += float(keys.float().mean()) / 2
            scores = found["layers"][1]
            assert abs(scores["mass"][head][number] - mass) < 1e-5
            assert abs(scores["read"][head][number] - read) < 1e-5


def made(model: AdaptedModel) -> dict[str, Any]:
    """Scores under which every head takes the A-shape."""
    score = [[1.0] + [0.5] * (len(SPACE) - 1)]
    layers = [{"mass": score * f.num_heads, "read": score * f.num_heads} for f in model.layers]
    return {"version": pattern_search.VERSION, "layers": layers}


def test_what_was_found_is_kept_under_its_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LENGTHWISE_CACHE", str(tmp_path))
    searched: list[AdaptedModel] = []

    def search(model: AdaptedModel) -> dict[str, Any]:
        searched.append(model)
        return made(model)

    monkeypatch.setattr(pattern_search, "search_patterns", search)
    model = adapt(tiny_model("llama"))
    resolve("minference", model)
    resolve("minference(slack=0.02)", model)
    assert len(searched) == 1 and "minference: searching" in capsys.readouterr().err
    again = adapt(tiny_model("llama"))
    plan = resolve("minference", again)
    assert len(searched) == 1 and plan.selector is not None
    reader = plan.selector(again.layers[0])
    assert isinstance(reader, LineReader)
    assert reader.patterns == [Pattern("a_shape", 100, 800, 100)] * 4
    resolve("minference", adapt(tiny_model("llama", seed=7)))
    assert len(searched) == 2, "another model's patterns were used"
    calibration.save("minference", again, {**made(again), "version": 0})
    resolve("minference", adapt(tiny_model("llama")))
    assert len(searched) == 3, "patterns of another version were used"


def test_the_verb_says_how_many_heads_take_a_pattern(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LENGTHWISE_CACHE", str(tmp_path))
    model = adapt(tiny_model("llama", seed=3))
    monkeypatch.setattr(pattern_search, "search_patterns", lambda model, progress: made(model))
    with Bar() as bar:
        MINFERENCE.run(SimpleNamespace(adapted=model), Asked(), bar)  # type: ignore[arg-type]
    assert "a_shape          100  800  8" in capsys.readouterr().out
    assert calibration.find("minference", model) is not None
    resolve("minference", model)


def test_large_models_and_those_without_a_tokenizer_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LENGTHWISE_CACHE", str(tmp_path))
    model = adapt(tiny_model("llama"))
    with pytest.raises(Refused, match="without a tokenizer"):
        resolve("minference", model)
    monkeypatch.setattr(pattern_search, "SMALL", 0)
    with pytest.raises(Refused, match="lengthwise calibrate minference"):
        resolve("minference", model)


def test_the_sample_asks_for_what_it_holds() -> None:
    class Letters:
        def encode(self, text: str, add_special_tokens: bool) -> list[int]:
            return [ord(letter) for letter in text]

    model = adapt(tiny_model("llama"))
    model.trained_length, model.tokenizer = 6000, Letters()  # type: ignore[assignment]
    text = "".join(map(chr, pattern_search.sample(model)))
    assert len(text) == 5999
    last = text.rsplit("\n", 1)[1]
    key, value = last.split('"')[1], last.split('"')[3]
    assert f'"{key}": "{value}"' in text
    assert MInference().pattern == minference.SEARCHED
