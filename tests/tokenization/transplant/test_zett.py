"""The network of ZeTT, the tokenizers it learns on, and rows made by it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lengthwise.errors import TokenizerError
from lengthwise.tokenization.transplant.hypernetwork import HyperNetwork, Shape
from lengthwise.tokenization.transplant.sampled import Sampler, Sampling, spelled
from lengthwise.tokenization.transplant.surgery import transplant
from lengthwise.tokenization.transplant.zett import Zett
from lengthwise.training.config import TrainingError
from lengthwise.training.zett import Settings, train
from tests.tokenization.transplant.tiny_pairs import OTHER, TEXT, byte_level, model_of

SMALL = Sampling(vocabulary=400, queue=16)
SHAPE = Shape(layers=1, heads=4)


def test_tokens_of_different_lengths_do_not_see_each_other() -> None:
    torch.manual_seed(0)
    network = HyperNetwork((torch.randn(50, 16), torch.randn(50, 16)), Shape(1, None, 4)).eval()
    cuts = [(1,), (2, 3, 4), (5, 6), (7,), tuple(range(12))]
    together = network(cuts)
    for number, each in enumerate(cuts):
        alone = network([each])
        for rows, own in zip(together, alone, strict=True):
            assert rows.shape == (5, 16)
            assert torch.allclose(rows[number], own[0], atol=1e-6)
    assert torch.allclose(together[0][4], network([tuple(range(7))])[0][0], atol=1e-6)


def test_sampled_tokenizers_differ_and_write_every_text() -> None:
    sampler = Sampler(SMALL, seed=0)
    sampler.show([TEXT, OTHER])
    drawn = [sampler.draw() for _ in range(6)]
    vocabularies = {frozenset(each.get_vocab()) for each in drawn}
    assert len(vocabularies) > 1
    for each in drawn:
        assert each.get_vocab_size() <= 400
        assert {bytes([byte]) for byte in range(256)} <= set(spelled(each))
        assert max(map(len, spelled(each))) <= 16
        for text in (TEXT, "猫 \x00 ß"):
            assert each.decode(each.encode(text).ids) == text
    quiet = Sampler(Sampling(vocabulary=400, queue=16, noise=1e-30, sigma=0.0), seed=0)
    quiet.show([TEXT])
    assert quiet.draw().get_vocab() == quiet.draw().get_vocab()
    assert b" the" in spelled(quiet.draw())


def test_texts_leave_the_queue() -> None:
    sampler = Sampler(Sampling(vocabulary=300, queue=2), seed=0)
    sampler.show(["zebra zebra", "cat", "dog"])
    assert not any(b"zeb" in each for each in spelled(sampler.draw()))


@pytest.mark.parametrize("tied", [True, False])
def test_training_lowers_both_losses_and_the_model_stays(tmp_path: Path, tied: bool) -> None:
    own = byte_level()
    model = model_of(own, tie_word_embeddings=tied)
    before = {name: each.clone() for name, each in model.state_dict().items()}
    how = Settings(identity=150, steps=12, batch=4, length=64, lr=3e-3, sampling=SMALL)
    told: list[tuple[str, int, float]] = []
    found = train(
        model, own, [TEXT], tmp_path / "net", SHAPE, how,
        lambda phase, done, steps, loss: told.append((phase, done, loss)),
    )  # fmt: skip
    first = next(loss for phase, _, loss in told if phase == "identity")
    assert found.identity < first / 3
    assert len(found.losses) == 12 and min(found.losses[-3:]) < found.losses[0]
    assert found.network.count == (1 if tied else 2)
    assert all(torch.equal(each, before[name]) for name, each in model.state_dict().items())

    made = transplant(model, own, byte_level(OTHER, 420), Zett(path=str(tmp_path / "net")))
    assert made.made and model.get_input_embeddings().weight.isfinite().all()
    other = model_of(own, seed=1)
    with pytest.raises(TokenizerError, match="another model or tokenizer"):
        transplant(other, own, byte_level(OTHER, 420), Zett(path=str(tmp_path / "net")))


def test_what_is_no_network_is_refused(tmp_path: Path) -> None:
    own = byte_level()
    (tmp_path / "doc.txt").write_text("words")
    for path, why in (("", "give its file"), (str(tmp_path / "nope"), "no such file"),
                      (str(tmp_path / "doc.txt"), "holds no hypernetwork")):  # fmt: skip
        with pytest.raises(TokenizerError, match=why):
            transplant(model_of(own), own, byte_level(OTHER), Zett(path=path))


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"length": 3}, {"lr": float("nan")},
                                   {"sampling": Sampling(vocabulary=256)}])  # fmt: skip
def test_settings_have_bounds(wrong: dict[str, object]) -> None:
    with pytest.raises(TrainingError):
        Settings(**wrong)  # type: ignore[arg-type]


def test_no_text_is_refused() -> None:
    own = byte_level()
    with pytest.raises(TrainingError, match="no text"):
        train(model_of(own), own, [""], None)
