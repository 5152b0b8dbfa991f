"""`lengthwise tokenizer transplant`: from a model and a tokenizer to a folder that loads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.bad_world import make_world
from tests.called import called
from tests.tokenization.transplant.tiny_pairs import OTHER, byte_level

RUN = ("tokenizer", "transplant", "talker")


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    make_world(tmp_path)
    monkeypatch.chdir(tmp_path)
    byte_level(OTHER, 380, ("<|eot|>",), template=False).save_pretrained(tmp_path / "new_tok")
    (tmp_path / "long.txt").write_text(OTHER * 10)
    return tmp_path


def test_a_transplant_is_a_model_that_writes(world: Path) -> None:
    words = (*RUN, "new_tok", "-o", "made", "--by", "tokenadapt_own(k=2)", "--text", "long.txt")
    status, out, err = called(*words)
    assert status == 0, err
    assert "rows copied" in out and "made by tokenadapt_own(k=2)" in out
    assert out.count("bits a byte") == 2
    assert sorted(each.name for each in world.glob("made*")) == ["made"]
    tokenizer = AutoTokenizer.from_pretrained("made")
    model = AutoModelForCausalLM.from_pretrained("made")
    assert model.config.vocab_size % 128 == 0 and len(tokenizer) <= model.config.vocab_size
    assert (
        tokenizer.encode(OTHER)[:20]
        == byte_level(OTHER, 380, ("<|eot|>",), False).encode(OTHER)[:20]
    )
    status, said, err = called("run", "hi", "-m", "made", "--max-new-tokens", "2")
    assert status == 0, err
    # A second one takes the place of the first: it is ours.
    assert called(*words)[:2] == (0, out)


def test_more_tokens_and_steps_on_a_text(world: Path) -> None:
    words = (*RUN, "-o", "made", "--extend", "20", "--learn", "long.txt", "--text", "long.txt",
             "--steps", "3", "--length", "16", "--rows", "2", "--lr", "0.01", "--train",
             "embeddings", "--json")  # fmt: skip
    status, out, err = called(*words)
    assert status == 0, err
    told = json.loads(out)
    losses = told["losses"]
    assert losses["trained"]["bits_a_byte"] < losses["after"]["bits_a_byte"]
    assert losses["after"]["tokens"] < losses["before"]["tokens"] == losses["before"]["bytes"]
    assert (told["made"], told["tokens"]) == (20, told["tokens_before"] + 20)
    assert (world / "made" / "model.safetensors").is_file()
    assert json.loads((world / "made" / "transplanted.json").read_text())["extend"] == 20
    # The run is done: the same command gives the same.
    assert json.loads(called(*words)[1])["losses"] == losses


def test_fewer_tokens(world: Path) -> None:
    assert called(*RUN, "new_tok", "-o", "whole")[0] == 0
    status, out, err = called(
        "tokenizer", "transplant", "whole", "-o", "part", "--trim", "--learn", "doc.txt",
        "--text", "doc.txt", "--multiple", "1", "--json",
    )  # fmt: skip
    assert status == 0, err
    told = json.loads(out)
    assert told["made"] == 0 and told["tokens"] < told["tokens_before"]
    before, after = told["losses"]["before"], told["losses"]["after"]
    assert (before["tokens"], before["bytes"]) == (after["tokens"], after["bytes"])


def test_a_network_is_trained_and_asked(world: Path) -> None:
    train = ("tokenizer", "hypernetwork", "talker", "long.txt", "-o", "some.network", "--identity",
             "2", "--steps", "2", "--batch", "1", "--length", "64", "--vocabulary", "300",
             "--layers", "1")  # fmt: skip
    status, out, err = called(*train)
    assert status == 0, err
    assert "some.network: " in out and "nats a byte" in out
    by = ("--by", "zett(path=some.network)")
    status, out, err = called(*RUN, "new_tok", "-o", "made", *by)
    assert status == 0, err
    assert "made by zett" in out


def test_models_of_others_stay(world: Path) -> None:
    for words, told in (
        (("-o", "model"), "--force"),
        (("-o", "texts", "--force"), "something else than a model"),
        (("-o", "talker", "--force"), "read by the same call"),
    ):
        before = sorted((world / words[1]).iterdir())
        status, _, err = called(*RUN, "new_tok", *words)
        assert status == 2 and told in err
        assert sorted((world / words[1]).iterdir()) == before
    assert called(*RUN, "new_tok", "-o", "model", "--force")[0] == 0
    assert (world / "model" / "transplanted.json").is_file()


def test_the_embedded_tokenizer_is_the_default_models_and_not_the_models_own(world: Path) -> None:
    status, out, err = called(*RUN, "embedded", "-o", "made", "--by", "random")
    assert status == 0, err
    assert out.startswith("made: 49,152 tokens (")
