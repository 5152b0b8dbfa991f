"""A2ATS: codebooks by what queries make of errors, estimates of logits, and what is read."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from hypothesis import given, settings, strategies as st
from torch import Tensor

import lengthwise
from lengthwise.cli.calibrate import calibrate
from lengthwise.cli.calibrators import Asked
from lengthwise.cli.main import ModelChoice
from lengthwise.engine.kv_cache.kv_store import KVStore
from lengthwise.engine.kv_cache.selection import Queries, SelectedKeys
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.loop import prefill
from lengthwise.engine.plan import FULL
from lengthwise.errors import LengthwiseError, RecipeError, Refused
from lengthwise.methods import calibration
from lengthwise.methods.selection import codebooks as books
from lengthwise.methods.selection.a2ats import A2ATS, CodedKeys, best_codes, union_of
from lengthwise.methods.selection.codebooks import (
    Codebook,
    centres_of,
    codebooks,
    measure_codebooks,
    metric_of,
    rule_of,
)
from lengthwise.models.adapt import adapt
from lengthwise.models.adapted_model import AdaptedModel
from lengthwise.recipes import parse, resolve
from lengthwise.testing.tiny import tiny, tiny_model, tokens
from tests.methods.selection.selection_runs import LENGTH, plan_of, read_all, read_on

SMALL = A2ATS(share=0.15, codes=32, sinks=2, window=8, position=20)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LENGTHWISE_CACHE", str(tmp_path))
    return tmp_path


# Codebooks.


def test_an_error_in_the_metric_is_that_of_the_logits() -> None:
    query, key = torch.randn(1, 50, 6) * torch.tensor([9.0, 1, 1, 1, 1, 0.1]), torch.randn(1, 20, 6)
    moment = query.mT @ query
    metric = metric_of(moment)
    assert torch.equal(metric, metric.tril())
    scale = moment.square().mean().sqrt()
    code = torch.randn(1, 1, 6)
    wrong = ((key - code) @ query.mT).square().sum(-1) / scale
    assert torch.allclose(((key - code) @ metric).square().sum(-1), wrong, rtol=1e-3)


def test_what_stands_for_a_key_gives_its_centre_back() -> None:
    metric = metric_of(torch.randn(2, 30, 6).mT @ torch.randn(2, 30, 6) * 0 + torch.eye(6) * 4)
    centres = torch.randn(2, 5, 6)
    book = Codebook.of(metric, centres)
    assert torch.allclose(book.keys @ metric, centres, atol=1e-5)
    assert book.encode(book.keys).tolist() == [list(range(5))] * 2


def test_metric_beats_plain_clusters_for_logits() -> None:
    """Where queries look at few channels, codes that mind them make smaller errors of logits."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.tensor([6.0, 6.0, *[0.2] * 14])
    query = torch.randn(1, 400, 16, generator=generator) * weight
    key = torch.randn(1, 600, 16, generator=generator)
    logits = key @ query.mT

    def error(metric: Tensor) -> float:
        book = Codebook.of(metric, centres_of(key @ metric, 32, 0))
        found = book.keys.gather(1, book.encode(key)[..., None].expand(-1, -1, 16))
        return float((found @ query.mT - logits).square().mean())

    aware, plain = error(metric_of(query.mT @ query)), error(torch.eye(16)[None])
    assert aware < 0.3 * plain < 0.3 * float(logits.square().mean())


def test_codebooks_are_of_unrotated_keys(llama: AdaptedModel) -> None:
    """With a code a key, every key of the text is its own code."""
    found = measure_codebooks(llama, 4000, 20)
    assert sorted(found["layers"]) == ["0", "1"]
    book = codebooks(llama, 4000, 20)[0]
    raw: list[Tensor] = []

    class Recorder(Sequence):
        def attend(self, layer, query, key, value, metadata):  # type: ignore[no-untyped-def]
            if layer == 0:
                raw.append(key)
            return super().attend(layer, query, key, value, metadata)

    count = min(books.TOKENS, 8 * llama.trained_length)
    prefill(Recorder(llama), books.calibration_text(llama, count - count // 5)[:40])
    codes = book.encode(raw[0])
    near = book.keys.gather(1, codes[..., None].expand(-1, -1, raw[0].shape[-1]))
    # Stored in 16 bits.
    assert float((near - raw[0]).abs().max() / raw[0].abs().max()) < 0.05


def test_layers_with_windows_of_their_own_have_none() -> None:
    model = tiny("gemma3_text")
    full = [layer.index for layer in model.layers if layer.window is None]
    assert sorted(codebooks(model, 8, 20)) == full


def test_codebooks_are_kept_by_their_number_and_damage_is_said(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, alike = adapt(tiny_model("llama")), adapt(tiny_model("llama"))
    first = codebooks(model, 8, 20)
    monkeypatch.setattr(books, "measure_codebooks", lambda *a, **k: pytest.fail("they are kept"))
    again = codebooks(alike, 8, 20)
    assert torch.equal(first[0].keys, again[0].keys)
    monkeypatch.undo()
    monkeypatch.setenv("LENGTHWISE_CACHE", str(cache))
    monkeypatch.setattr(books, "QUICK", 0)
    with pytest.raises(Refused, match="lengthwise calibrate a2ats --codes 9 --position 20`"):
        codebooks(model, 9, 20)
    with pytest.raises(Refused, match="lengthwise calibrate a2ats --codes 8 --position 21`"):
        codebooks(model, 8, 21)
    with pytest.raises(Refused, match="calibrated"):
        codebooks(adapt(tiny_model("llama", seed=9)), 8, 20)
    path = calibration.artefact_path("a2ats", model, rule_of(8, 20))
    held = json.loads(path.read_text())
    held["layers"]["0"]["metric"]["data"] = "no"
    less = {**held, "layers": {"0": held["layers"]["1"]}}
    for text in (json.dumps(held), json.dumps(less), "{"):
        path.write_text(text)
        with pytest.raises(LengthwiseError, match="damaged.*a2ats --codes 8 --position 20`"):
            codebooks(adapt(tiny_model("llama")), 8, 20)


def test_codebooks_are_read_once_for_a_model_and_its_sequences_hold_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, read = adapt(tiny_model("llama")), []
    unpack = books._unpack
    monkeypatch.setattr(books, "_unpack", lambda *given: read.append("") or unpack(*given))
    recipe = "a2ats(share=0.2, codes=8, sinks=2, window=8, position=20)"
    held = []
    for _ in range(2):
        sequence = Sequence(model, resolve(recipe, model))
        prefill(sequence, tokens(40))
        held.append([group.selector.book for _, group in sequence.groups()])  # type: ignore[union-attr]
    # A metric and centres of each layer.
    assert len(read) == 2 * len(model.layers)
    assert all(a is b for a, b in zip(*held, strict=True))
    assert all(book.keys.device == f.device for book, f in zip(held[0], model.layers, strict=True))
    # Another position has others; what is measured anew is read anew.
    assert codebooks(model, 8, 21)[0] is not held[0][0]
    before = codebooks(model, 8, 20)
    books.calibrate_codebooks(model, 8, 20)
    assert codebooks(model, 8, 20) is not before


def test_what_a_refusal_says_to_calibrate_is_accepted_then(monkeypatch: pytest.MonkeyPatch) -> None:
    model = lengthwise.wrap(tiny_model("llama"))
    monkeypatch.setattr(books, "QUICK", 0)
    monkeypatch.setattr(ModelChoice, "open", lambda _: model)
    for recipe in ("a2ats(codes=8, position=24)", "a2ats(codes=8)"):
        with pytest.raises(Refused) as refused:
            resolve(recipe, model.adapted)
        command = re.search(r"`lengthwise calibrate ([^`]*)`", str(refused.value))
        assert command is not None
        said = CliRunner().invoke(calibrate, command[1].split())
        assert said.exit_code == 0, said.output
        assert "codebooks of 8 codes" in said.output
        resolve(recipe, model.adapted)
    misplaced = CliRunner().invoke(calibrate, ["razor", "--position", "3"])
    assert "--position is for calibrate a2ats" in str(misplaced.exception)


def test_calibrate_measures_by_default_what_the_method_reads() -> None:
    asked = Asked()
    assert (asked.codes, asked.position) == (A2ATS.codes, A2ATS.position)
    options = {each.name: each.default for each in calibrate.params}
    assert (options["codes"], options["position"]) == (A2ATS.codes, A2ATS.position)


# What is read.


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 999), st.integers(1, 3), st.integers(1, 40))
def test_codes_are_taken_until_the_share_is_reached(seed: int, group: int, wanted: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    estimates = torch.randn(2, group, 24, generator=generator)
    labels = torch.randint(0, 24, (2, 40), generator=generator)
    sizes = torch.stack([row.bincount(minlength=24) for row in labels])
    found = best_codes(estimates, sizes, wanted, 40)
    for head in range(2):
        for row in range(group):
            held, expected = 0, set()
            for code in estimates[head, row].argsort(descending=True).tolist():
                if held >= wanted:
                    break
                expected.add(code)
                held += int(sizes[head, code])
            assert set(found[head, row].nonzero()[:, 0].tolist()) == expected


def test_key_heads_read_unequal_numbers() -> None:
    kept = torch.rand(3, 30) < torch.tensor([[0.1], [0.5], [0.9]])
    choice = union_of(kept, 6)
    assert choice.mask is not None and choice.ids.shape == (3, int(kept.sum(1).max()))
    for head in range(6):
        seen = choice.ids[head // 2][choice.mask[head, 0]]
        assert torch.equal(seen, kept[head // 2].nonzero()[:, 0])
    assert (choice.ids.diff(dim=1) > 0).all()


def test_a_code_a_key_reads_the_largest_windowed_logits(
    llama: AdaptedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw: dict[int, list[Tensor]] = {}
    checked: list[bool] = []
    plan, extend = CodedKeys.plan, CodedKeys.extend_raw

    def noting(self: CodedKeys, key: Tensor) -> None:
        raw.setdefault(id(self), []).append(key)
        extend(self, key)

    def watched(self: CodedKeys, queries: Queries, far: KVStore) -> SelectedKeys | None:
        key = torch.cat(raw[id(self)], 1)
        heads, count, dim = key.shape
        # A codebook of these very keys.
        self.book = Codebook.of(torch.eye(dim).expand(heads, -1, -1), key)
        self.first = torch.arange(heads)[:, None] * count
        self.codes = (torch.arange(count).expand(heads, -1) + self.first).int()
        self.sizes = torch.ones(heads, count, dtype=torch.int64)
        choice = plan(self, queries, far)
        assert choice is not None and choice.mask is not None and queries.rotate is not None
        query = queries.rotate(queries.raw, torch.tensor([self.method.position]))[:, 0]
        wanted = int(self.method.share * (queries.span[1] + 1))
        for head, own in enumerate(query.unflatten(0, (heads, -1))):
            best = (own @ key[head].T).topk(wanted).indices
            seen = choice.ids[head][choice.mask[head * len(own), 0]]
            checked.append(torch.equal(seen, best.flatten().unique()))
        return choice

    monkeypatch.setattr(CodedKeys, "extend_raw", noting)
    sequence = Sequence(llama, plan_of(dataclasses.replace(SMALL, sinks=0), llama))
    # No token twice: in the first layer equal tokens have equal keys, and ties fall either way.
    generator = torch.Generator().manual_seed(0)
    prefill(sequence, torch.randperm(120, generator=generator)[:LENGTH].tolist())
    sequence.end_prefill()
    monkeypatch.setattr(CodedKeys, "plan", watched)
    read_on(sequence, [5])
    assert len(checked) == 4 and all(checked)


@pytest.mark.parametrize("family", ["llama", "qwen3", "deepseek_v3", "gpt2"])
def test_codes_are_those_of_unrotated_keys_of_all_far_ones(family: str) -> None:
    model = tiny(family)
    sequence = Sequence(model, plan_of(SMALL, model), offset=3 if model.rope else 0)
    raw: dict[int, list[Tensor]] = {}

    class Recorder(Sequence):
        def attend(self, layer, query, key, value, metadata):  # type: ignore[no-untyped-def]
            raw.setdefault(layer, []).append(key)
            return super().attend(layer, query, key, value, metadata)

    sequence.__class__ = Recorder
    prefill(sequence, tokens(60), 16)
    sequence.end_prefill()
    read_on(sequence, tokens(12, seed=2))
    for layer, group in sequence.groups():
        selector = group.selector
        assert isinstance(selector, CodedKeys)
        count = len(group.far)
        key = torch.cat(raw[layer.facts.index], 1)[:, :count]
        same = (selector.book.encode(key) + selector.first).int() == selector.codes
        # A key between two codes may fall to either after rounding.
        assert selector.codes.shape == (len(key), count) and float(same.float().mean()) > 0.99
        expected = torch.zeros_like(selector.sizes)
        late = (selector.codes - selector.first).long()[:, SMALL.sinks :]
        assert torch.equal(selector.sizes, expected.scatter_add_(1, late, torch.ones_like(late)))


def test_all_of_it_equals_full(model: AdaptedModel) -> None:
    text = tokens(LENGTH)
    full = read_all(model, FULL, text, LENGTH, 0)
    # The second chooses among codes, and finds that all keys are wanted.
    for method in (A2ATS.identity(LENGTH), A2ATS(share=0.99, codes=8, window=8, position=20)):
        found = read_all(model, plan_of(method, model), text, 16, 8)
        assert float((found - full).abs().max()) < 1e-4
    less = read_all(model, plan_of(SMALL, model), text, 16, 8)
    assert float((less[-1] - full[-1]).abs().max()) > 1e-3


def test_defaults_are_those_of_the_released_code_and_bad_ones_are_refused() -> None:
    found = A2ATS()
    assert (found.share, found.codes, found.sinks, found.window) == (0.03, 4096, 8, 64)
    assert found.position == 2048
    for bad in ("share=1.5", "codes=1", "sinks=-1", "window=0", "position=-2"):
        with pytest.raises(RecipeError, match="a2ats"):
            parse(f"a2ats({bad})")
    with pytest.raises(Refused, match="both decide which keys"):
        resolve("a2ats(codes=8) + quest", tiny("llama"))
