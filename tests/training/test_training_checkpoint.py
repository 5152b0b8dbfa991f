"""A checkpoint is trained on rows of its own tokenizer, and leaves as what it came as."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from lengthwise.sequences.encoder import ByteEncoder, Encoder, byte_tokenizer, load_encoder
from lengthwise.sequences.store import SequenceSet
from lengthwise.training.config import TrainingError
from lengthwise.training.model import load_weights
from lengthwise.training.trainer import Trainer, train
from tests.training_runs import LLAMA, Watching, build_set, config, texts

TEMPLATE = "{% for m in messages %}{{ m['content'] }}{% endfor %}"


def turned_bytes() -> Tokenizer:
    """As many tokens as bytes have, with other numbers."""
    plain = json.loads(byte_tokenizer().to_str())["model"]["vocab"]
    tokenizer = Tokenizer(models.BPE(vocab={k: 255 - v for k, v in plain.items()}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|endoftext|>", "<s>", "<pad>"])
    return tokenizer


def save_checkpoint(folder: Path, tokenizer: Tokenizer | None, **sizes: Any) -> Path:
    """A bf16 checkpoint with all that one has beside its weights."""
    torch.manual_seed(5)
    known: dict[str, Any] = {
        "vocab_size": tokenizer.get_vocab_size() if tokenizer else 257, "hidden_size": 32,
        "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
        "num_key_value_heads": 1, "eos_token_id": 256,
        **({"bos_token_id": 257, "pad_token_id": 258} if tokenizer else {}),
    }  # fmt: skip
    model = LlamaForCausalLM(LlamaConfig(**known | sizes)).to(torch.bfloat16)
    model.save_pretrained(folder)
    (folder / "generation_config.json").write_text('{"temperature": 0.6, "eos_token_id": [256, 3]}')
    if tokenizer:
        PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, eos_token="<|endoftext|>", bos_token="<s>",
            pad_token="<pad>", chat_template=TEMPLATE,
        ).save_pretrained(folder)  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("checkpoints")
    save_checkpoint(place / "base", turned_bytes())
    save_checkpoint(place / "tied", turned_bytes(), tie_word_embeddings=True)
    save_checkpoint(place / "bare", None)
    own = load_encoder(str(place / "base"))
    build_set(place, "own", texts(60, 200), "concat", own)
    build_set(place, "bytes", texts(60, 200), "concat", ByteEncoder())
    build_set(place, "knots", texts(60, 200), "utk", load_encoder(str(place / "base")))
    build_set(place, "pairs", texts(60, 200), "pair", load_encoder(str(place / "base")))
    return place


def described(place: Path, data: str, out: str, checkpoint: str = "base", **model: Any) -> Any:
    return config(place, data, out, steps=2, data={"train": data},
                  model={"checkpoint": checkpoint, **model})  # fmt: skip


def test_rows_of_another_tokenizer_of_the_same_size_are_refused_by_both_names(
    place: Path, tmp_path: Path
) -> None:
    theirs = SequenceSet(place / "bytes").manifest["tokenizer"]
    mine = load_encoder(str(place / "base")).fingerprint
    with pytest.raises(TrainingError) as refused:
        Trainer(described(place, "bytes", str(tmp_path / "run")))
    said = str(refused.value)
    assert theirs["fingerprint"][:12] in said and mine[:12] in said
    assert f"build the data again with -t {place / 'base'}" in said
    assert not (tmp_path / "run").exists()


def test_a_tokenizer_without_the_end_token_of_the_data_is_another(
    place: Path, tmp_path: Path
) -> None:
    other = save_checkpoint(tmp_path / "other", turned_bytes())
    named = (other / "tokenizer.json").read_text().replace("<|endoftext|>", "<|end|>")
    (other / "tokenizer.json").write_text(named)
    with pytest.raises(TrainingError, match=r"without '<\|endoftext\|>'"):
        Trainer(described(place, "own", str(tmp_path / "run"), str(other)))


@pytest.mark.parametrize("more", ["saved anew", "a special token more"])
def test_the_same_numbers_under_another_fingerprint_are_the_same_tokenizer(
    place: Path, tmp_path: Path, more: str
) -> None:
    tokenizer = turned_bytes()
    tokenizer.enable_padding()
    if more == "a special token more":
        tokenizer.add_special_tokens(["<|tool|>"])
    tokenizer.decoder = decoders.Fuse()
    other = save_checkpoint(tmp_path / "other", tokenizer)
    built = SequenceSet(place / "own").manifest["tokenizer"]
    assert Encoder(tokenizer, "<|endoftext|>").fingerprint != built["fingerprint"]
    assert Trainer(described(place, "own", str(tmp_path / "run"), str(other))).done == 0


@pytest.mark.parametrize("whose", ["checkpoint", "data"])
def test_who_knows_better_says_whose_tokenizer_is_kept(
    place: Path, tmp_path: Path, whose: str
) -> None:
    out = train(described(place, "bytes", str(tmp_path / "run"), tokenizer=whose)).folder
    tokenizer = AutoTokenizer.from_pretrained(out / "model")
    number = 255 - ord("a") if whose == "checkpoint" else ord("a")
    assert tokenizer("a", add_special_tokens=False)["input_ids"] == [number]
    assert (tokenizer.chat_template == TEMPLATE) == (whose == "checkpoint")


def test_a_checkpoint_without_a_tokenizer_is_said_to_be_so(place: Path, tmp_path: Path) -> None:
    notes = Watching()
    folder = train(described(place, "bytes", str(tmp_path / "run"), "bare"), notes).folder
    assert any("has no tokenizer that could be compared" in each for each in notes.said)
    assert AutoTokenizer.from_pretrained(folder / "model")("a")["input_ids"] == [ord("a")]


def test_the_export_keeps_tokenizer_template_generation_and_dtype(
    place: Path, tmp_path: Path
) -> None:
    folder = train(described(place, "own", str(tmp_path / "run"))).folder / "model"
    kept = ("tokenizer.json", "tokenizer_config.json", "generation_config.json")
    for name in kept:
        assert (folder / name).read_bytes() == (place / "base" / name).read_bytes()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert (tokenizer.bos_token, tokenizer.pad_token) == ("<s>", "<pad>")
    assert tokenizer.chat_template == TEMPLATE
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.dtype == torch.bfloat16
    assert model.generation_config.eos_token_id == [256, 3]
    assert {each.dtype for each in load_file(folder / "model.safetensors").values()} == {
        torch.bfloat16
    }


def test_the_dtype_of_the_export_may_be_asked_for_and_is_that_of_the_weights_in_training_else(
    place: Path, tmp_path: Path
) -> None:
    run = described(place, "own", str(tmp_path / "run"), export_dtype="fp16")
    folder = train(run).folder
    assert AutoModelForCausalLM.from_pretrained(folder / "model").dtype == torch.float16
    last = folder / "checkpoints" / "step-00000002" / "model"
    assert AutoModelForCausalLM.from_pretrained(last).dtype == torch.float32
    assert AutoTokenizer.from_pretrained(last).bos_token == "<s>"
    trained = load_file(last / "model.safetensors")
    left = load_file(folder / "model" / "model.safetensors")
    assert all(torch.equal(left[key], trained[key].half()) for key in left)
    plain = train(config(place, "own", str(tmp_path / "new"), steps=2, data={"train": "own"}))
    assert AutoModelForCausalLM.from_pretrained(plain.folder / "model").dtype == torch.float32


@pytest.mark.parametrize("checkpoint", ["base", "tied"])
@pytest.mark.parametrize("data", ["knots", "pairs"])
def test_added_tokens_get_embeddings_and_stay_in_the_tokenizer(
    place: Path, tmp_path: Path, data: str, checkpoint: str
) -> None:
    manifest = SequenceSet(place / data).manifest
    added, needed = manifest["added_tokens"], manifest["tokenizer"]["vocab_size"]
    assert needed == 259 + len(added)
    notes = Watching()
    run = described(place, data, str(tmp_path / "run"), checkpoint)
    trainer = Trainer(run, notes)
    before = load_file(place / checkpoint / "model.safetensors")["model.embed_tokens.weight"]
    after = trainer.model.get_input_embeddings().weight.detach()
    assert torch.equal(after[:259], before.float())
    # New rows lie near the mean of the others, which are about as far from it as they are long.
    off = (after[259:] - before.float().mean(0)).norm(dim=-1)
    assert float(off.max()) < 0.2 * float(before.float().norm(dim=-1).mean())
    resized = [each for each in notes.said if each.startswith("embeddings resized")]
    assert len(resized) == 1 and f"from 259 to {needed}" in resized[0]
    trainer.steps = 1
    trainer._step()
    trainer._checkpoint(now=True)
    trainer.close()
    # Gone on with, nothing is resized again.
    notes = Watching()
    folder = train(run, notes).folder / "model"
    assert "going on after step 1 of 2" in notes.said
    assert not any("resized" in each for each in notes.said)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.convert_tokens_to_ids(list(added)) == list(added.values())
    assert tokenizer.chat_template == TEMPLATE
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.get_input_embeddings().weight.shape[0] == needed
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert tied == (checkpoint == "tied")
    # Its rows without knots are still its own.
    assert Trainer(described(place, "own", str(tmp_path / "on"), str(folder))).done == 0


def test_a_checkpoint_that_has_room_for_the_tokens_is_not_resized(
    place: Path, tmp_path: Path
) -> None:
    save_checkpoint(tmp_path / "roomy", turned_bytes(), vocab_size=320)
    notes = Watching()
    trainer = Trainer(
        described(place, "knots", str(tmp_path / "run"), str(tmp_path / "roomy")), notes
    )
    assert trainer.model.get_input_embeddings().weight.shape[0] == 320
    assert not any("resized" in each for each in notes.said)


def test_gpt2_whose_head_is_its_embedding_is_resized_too(place: Path, tmp_path: Path) -> None:
    other = save_checkpoint(tmp_path / "gpt2", turned_bytes())
    torch.manual_seed(0)
    GPT2LMHeadModel(GPT2Config(
        vocab_size=259, n_embd=32, n_layer=1, n_head=2, n_positions=64, eos_token_id=256,
    )).save_pretrained(other)  # fmt: skip
    folder = train(described(place, "knots", str(tmp_path / "run"), str(other))).folder / "model"
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.lm_head.weight is model.transformer.wte.weight
    assert model.lm_head.weight.shape[0] > 259


def test_a_vocabulary_that_is_larger_by_more_than_what_was_added_is_refused(
    place: Path, tmp_path: Path
) -> None:
    save_checkpoint(tmp_path / "small", None, vocab_size=200, eos_token_id=1)
    with pytest.raises(TrainingError, match=r"has 200 tokens and the data's tokenizer 257, of"):
        Trainer(described(place, "bytes", str(tmp_path / "run"), str(tmp_path / "small")))


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda f: f.write_bytes(b""), "model.safetensors is empty"),
        (lambda f: f.write_bytes(f.read_bytes()[:2000]), "cannot be loaded"),
        (lambda f: f.write_bytes(b"\0" * 4000), "cannot be loaded"),
        (lambda f: _change(f.parent, vocab_size=300), "other shapes than its config.json says"),
        (lambda f: _change(f.parent, num_hidden_layers=3), r"holds no weights for .*layers\.2"),
        (lambda f: _change(f.parent, quantization_config={"quant_method": "bitsandbytes"}),
         "holds quantised weights"),
    ],
    ids=["empty", "truncated", "zeros", "shapes", "layers", "quantised"],
)  # fmt: skip
def test_a_damaged_checkpoint_is_one_line(tmp_path: Path, harm: Any, said: str) -> None:
    folder = save_checkpoint(tmp_path / "base", None)
    harm(folder / "model.safetensors")
    with pytest.raises(TrainingError, match=said):
        load_weights(folder, "sdpa")


def _change(folder: Path, **values: Any) -> None:
    found = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(found | values))


def test_a_family_that_has_too_few_tokens_by_its_own_setting_is_still_refused(
    place: Path, tmp_path: Path
) -> None:
    small = {"model": LLAMA | {"vocab_size": 99}, "data": {"train": "bytes"}}
    with pytest.raises(TrainingError, match="has 99 tokens and the data's tokenizer 257: leave"):
        Trainer(config(place, "bytes", str(tmp_path / "run"), **small))
