"""The network of ZeTT, the tokenizers it learns on, and rows made by it."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lengthwise.errors import TokenizerError
from lengthwise.tokenization.token_bytes import byte_vocabulary
from lengthwise.tokenization.transplant.hypernetwork import HyperNetwork, Shape
from lengthwise.tokenization.transplant.pieces import Pieces
from lengthwise.tokenization.transplant.sampled import Sampler, Sampling, spelled
from lengthwise.tokenization.transplant.surgery import donor_of, transplant
from lengthwise.tokenization.transplant.zett import Zett
from lengthwise.training.config import TrainingError
from lengthwise.training.zett import Settings, _Run, train
from tests.tokenization.transplant.tiny_pairs import OTHER, TEXT, byte_level, model_of

SMALL = Sampling(vocabulary=400, queue=16)
SHAPE = Shape(layers=1, heads=4)
SHORT = Settings(identity=1, steps=1, batch=1, length=64, sampling=Sampling(300, queue=4))


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of `model_of(byte_level())`, as it was after a step or two."""
    path = tmp_path_factory.mktemp("zett") / "net"
    train(model_of(byte_level()), byte_level(), [TEXT], path, SHAPE, SHORT)
    return path


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


@pytest.mark.parametrize(("width", "heads"), [(64, 8), (36, 6), (20, 5), (7, 7), (37, 1), (6, 6)])
def test_heads_are_as_many_as_divide_the_width(width: int, heads: int) -> None:
    network = HyperNetwork((torch.randn(9, 16),), Shape(layers=1, width=width))
    assert network.encoder.layers[0].self_attn.num_heads == heads
    assert network([(1, 2)])[0].shape == (1, 16)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_network_is_of_its_model_in_any_dtype(short: Path, dtype: torch.dtype) -> None:
    found = transplant(model_of(byte_level()).to(dtype), byte_level(), byte_level(OTHER, 300),
                       Zett(path=str(short)))  # fmt: skip
    assert found.made and found.model.get_input_embeddings().weight.dtype == dtype
    other = model_of(byte_level(), seed=1).to(dtype)
    with pytest.raises(TokenizerError, match="another model or tokenizer"):
        transplant(other, byte_level(), byte_level(OTHER, 300), Zett(path=str(short)))


@pytest.mark.parametrize("padding", [650, 7])
def test_padding_is_a_token_as_others_while_a_network_learns(padding: int) -> None:
    # Beyond the sampled vocabulary, and within it.
    own = byte_level()
    model = model_of(own, padding=700 - len(own), pad_token_id=padding)
    inner = model.get_input_embeddings()
    seen = []
    inner.register_forward_pre_hook(lambda module, _: seen.append(module.padding_idx))
    train(model, own, [TEXT], None, SHAPE, SHORT)
    assert seen == [None] and inner.padding_idx == padding


@pytest.mark.parametrize("told", [None, KeyboardInterrupt])
def test_the_model_wants_the_same_gradients_afterwards(told: type[BaseException] | None) -> None:
    own = byte_level()
    model = model_of(own)
    model.lm_head.weight.requires_grad_(False)
    before = {name: each.requires_grad for name, each in model.named_parameters()}
    assert len(set(before.values())) == 2

    def tell(phase: str, *_: object) -> None:
        if told is not None and phase == "main":
            raise told

    with suppress(KeyboardInterrupt):
        train(model, own, [TEXT], None, SHAPE, SHORT, tell)
    assert {name: each.requires_grad for name, each in model.named_parameters()} == before
    assert all(each.grad is None for each in model.parameters())
    assert model.get_input_embeddings().padding_idx == model.config.pad_token_id


class _Bigram(nn.Module):
    """As models are, but that it asks no tensor for a number, which those of "meta" refuse."""

    def __init__(self, tied: bool) -> None:
        super().__init__()
        with torch.device("meta"):
            self.inner, self.outer = nn.Embedding(330, 16), nn.Linear(16, 330)
        self.outer.weight = self.inner.weight if tied else self.outer.weight
        self.device = torch.device("meta")

    def get_input_embeddings(self) -> nn.Module:
        return self.inner

    def get_output_embeddings(self) -> nn.Module:
        return self.outer

    def forward(self, input_ids: Tensor, use_cache: bool) -> SimpleNamespace:
        return SimpleNamespace(logits=self.outer(self.inner(input_ids)))


@pytest.mark.parametrize("count", [1, 2])
def test_all_is_done_where_the_model_is(count: int) -> None:
    # Tensors of "meta" go with no others, as those of a GPU do not.
    own, matrices = byte_level(), tuple(torch.randn(count, 330, 16))
    old = byte_vocabulary(own)
    pieces = Pieces(own, old)
    network = HyperNetwork(matrices, SHAPE).to("meta")
    model: Any = _Bigram(tied=count == 1)
    donor = donor_of(matrices, pieces, old, ())
    run = _Run(model, own, network, donor, matrices, pieces, SHORT)
    cuts = [(1,), (2, 3), (4, 5, 6), (7,)]
    rows = network(cuts)
    losses = (run._nats([(0, 1), (2,)], rows), run._lexical(cuts, rows),
              run._distance([(5,), (6,)], (5, 6)))  # fmt: skip
    assert [each.device.type for each in (*rows, *losses)] == ["meta"] * (len(rows) + 3)
