"""Rankers: what they read, and the files they lie in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import lengthwise
from lengthwise.errors import LengthwiseError, RecipeError, Refused
from lengthwise.retrieval.datastore import fingerprint
from lengthwise.retrieval.ranker import (
    KEY,
    PREFIX,
    SUFFIX,
    BiEncoder,
    Shape,
    load_ranker,
    require_reads,
    save_ranker,
)
from lengthwise.testing.tiny import tiny, tiny_model, tokens
from tests.chat_models import tokenizer

SHAPE = Shape(width=16, layers=1, heads=2, prefix=8, suffix=4)


def made(rows: int = 128, shape: Shape = SHAPE, name: str = "") -> BiEncoder:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return BiEncoder(torch.randn(rows, 24), shape, name, {"steps": 3}).eval()


@torch.no_grad()
def test_a_prefix_is_cut_on_the_left_and_a_continuation_on_the_right() -> None:
    ranker, long = made(), tokens(30)
    assert torch.equal(ranker([long], PREFIX), ranker([long[-8:]], PREFIX))
    assert torch.equal(ranker([long], SUFFIX), ranker([long[:4]], SUFFIX))
    assert not torch.allclose(ranker([long[:4]], PREFIX), ranker([long[:4]], SUFFIX), atol=1e-3)


@torch.no_grad()
def test_a_text_beside_longer_ones_has_the_vector_that_it_has_alone() -> None:
    ranker, texts = made(), [tokens(2, 1), tokens(7, 2), tokens(1, 3)]
    together = ranker(texts, PREFIX)
    alone = torch.cat([ranker([each], PREFIX) for each in texts])
    assert torch.allclose(together, alone, atol=1e-6)
    assert torch.allclose(together.norm(dim=-1), torch.ones(3))
    scores = ranker.scores(texts[1], texts)
    products = ranker.scale * (ranker(texts, SUFFIX) @ ranker([texts[1]], PREFIX)[0])
    assert scores == pytest.approx(products.tolist(), abs=1e-5)


def test_what_was_stored_scores_the_same(tmp_path: Path) -> None:
    ranker, path = made(name="abc"), tmp_path / "a.ranker"
    save_ranker(path, ranker)
    found = load_ranker(path)
    assert (found.shape, found.tokenizer, found.trained) == (SHAPE, "abc", {"steps": 3})
    texts = [tokens(4, seed) for seed in range(5)]
    assert found.scores(tokens(9), texts) == pytest.approx(ranker.scores(tokens(9), texts), abs=0.1)
    assert found.table.shape == (128, 16) and found.table.dtype == torch.float16
    assert load_ranker(path) is found
    with safe_open(str(path), framework="pt") as file:
        assert json.loads(file.metadata()[KEY])["vocab_size"] == 128


def test_one_of_another_tokenizer_is_refused(tmp_path: Path) -> None:
    words = tokenizer()
    model = lengthwise.wrap(tiny_model("llama", vocab_size=len(words)), words).adapted
    require_reads(made(len(words), name=fingerprint(words)), "a", model)
    require_reads(made(len(words)), "a", model)
    with pytest.raises(Refused, match="another tokenizer"):
        require_reads(made(len(words), name="other"), "a", model)
    with pytest.raises(Refused, match="knows 100 tokens, and this model has"):
        require_reads(made(100), "a", tiny("llama"))


def test_other_files_are_none(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="No such file.*ranker train"):
        load_ranker(tmp_path / "none")
    other, path = tmp_path / "other", tmp_path / "a.ranker"
    save_file({"x": torch.zeros(1)}, other)
    with pytest.raises(RecipeError, match="holds no ranker"):
        load_ranker(other)
    save_ranker(path, made())
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"x" * 100, b""):
        path.write_bytes(damaged)
        with pytest.raises(RecipeError, match=r"is damaged .* train it again"):
            load_ranker(path)
    path.write_bytes(whole)
    with safe_open(str(path), framework="pt") as file:
        said = json.loads(file.metadata()[KEY])
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    save_file(weights, path, metadata={KEY: json.dumps({**said, "version": 99})})
    with pytest.raises(RecipeError, match="format version 99"):
        load_ranker(path)
    weights["out.weight"] = torch.full((16, 16), float("nan"))
    save_file(weights, path, metadata={KEY: json.dumps(said)})
    with pytest.raises(RecipeError, match="no numbers"):
        load_ranker(path)


@pytest.mark.parametrize("wrong", [{"width": 0}, {"width": 6}, {"layers": 1.5}, {"prefix": True}])
def test_shapes_that_are_none(wrong: dict[str, int]) -> None:
    with pytest.raises(LengthwiseError, match=next(iter(wrong))):
        Shape(**wrong)
