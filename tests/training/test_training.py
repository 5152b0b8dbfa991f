"""What a training step promises: the right loss of the right tokens, however they are arranged."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from lengthwise.cli.sequences import sequences
from lengthwise.cli.train import train as train_verb
from lengthwise.scaling import find_law, read_table
from lengthwise.sequences.store import Row, SequenceSet
from lengthwise.sequences.token_store import TokenStore
from lengthwise.training.config import TrainingError, read_config
from lengthwise.training.cost import Measured, fit, sizes_of
from lengthwise.training.data import IGNORED, Batch, Feed, Work, make_batch
from lengthwise.training.evaluate import Validation
from lengthwise.training.growth import layers_of, rate_of, stack
from lengthwise.training.parallel import Ranks
from lengthwise.training.step import (
    accumulate_gradients,
    check_documents_are_apart,
    token_losses,
)
from lengthwise.training.trainer import Trainer, train
from tests.training_runs import GPT2, LLAMA, Watching, build_set, build_sets, config


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_sets(tmp_path_factory.mktemp("training"))


def model_of(sizes: dict[str, Any]) -> Any:
    torch.manual_seed(0)
    known = {"vocab_size": 257, "bos_token_id": None, "eos_token_id": 256, "pad_token_id": None}
    others = {key: value for key, value in sizes.items() if key != "family"}
    made = AutoConfig.for_model(sizes["family"], **known, **others)
    return AutoModelForCausalLM.from_config(made).eval()


def row(*pieces: int, seed: int = 0) -> Row:
    ids = np.random.default_rng(seed).integers(0, 257, sum(pieces)).astype(np.int32)
    return Row(ids, np.array(pieces, np.int32))


@pytest.mark.parametrize("sizes", [LLAMA, GPT2, LLAMA | {"family": "qwen3", "head_dim": 8}])
def test_packed_and_masked_loss_equals_unpacked(sizes: dict[str, Any]) -> None:
    model = model_of(sizes)
    rows = [row(5, 11, 1, 7), row(9, 4, seed=1)]
    batch, _ = make_batch(rows, target_token=False)
    packed = token_losses(model, batch)
    for r, each in enumerate(rows):
        start = 0
        for length in each.lengths.tolist():
            ids = torch.from_numpy(each.input_ids[start : start + length].astype(np.int64))[None]
            if length > 1:
                alone = token_losses(model, Batch(ids[:, :-1], ids[:, 1:]))[0]
                found = packed[r, start : start + length - 1]
                assert torch.allclose(found, alone, atol=1e-5, rtol=0)
            assert packed[r, start + length - 1] == 0
            start += length
        assert not packed[r, start:].any()


def test_a_family_that_cannot_keep_documents_apart_is_refused() -> None:
    model = model_of({"family": "bloom", "hidden_size": 32, "n_layer": 2, "n_head": 4})
    with pytest.raises(TrainingError, match="'bloom' does not keep documents in one row apart"):
        check_documents_are_apart(model, 257, Ranks())


def test_flash_attention_is_given_all_rows_as_one() -> None:
    model, batch = model_of(LLAMA), make_batch([row(5, 11), row(9, 7, seed=1)], False)[0]
    wanted = token_losses(model, batch)
    shapes = []
    model.register_forward_pre_hook(
        lambda _, __, given: shapes.append(given["input_ids"].shape), with_kwargs=True
    )
    # It is not installed where tests run: sdpa under its name takes the rows that it would.
    model.config._attn_implementation_internal = "flash_attention_2"
    with pytest.MonkeyPatch.context() as patch:
        sdpa = ALL_ATTENTION_FUNCTIONS["sdpa"], ALL_MASK_ATTENTION_FUNCTIONS["sdpa"]
        patch.setitem(ALL_ATTENTION_FUNCTIONS._global_mapping, "flash_attention_2", sdpa[0])
        patch.setitem(ALL_MASK_ATTENTION_FUNCTIONS._global_mapping, "flash_attention_2", sdpa[1])
        found = token_losses(model, batch)
    assert shapes == [(1, 32)]
    assert torch.allclose(found, wanted, atol=1e-5)


def test_a_row_with_a_target_token_predicts_at_every_input() -> None:
    one = row(9)
    batch, work = make_batch([one, row(9, seed=1)], target_token=True)
    assert batch.input_ids[0].tolist() == one.input_ids[:-1].tolist()
    assert batch.targets[0].tolist() == one.input_ids[1:].tolist()
    assert batch.position_ids is None
    assert work == Work(tokens=16, rows=2, token_lengths=128, pairs=72)


def test_what_the_loss_mask_leaves_out_is_never_a_target() -> None:
    masked = Row(row(6).input_ids, np.array([6], np.int32), np.array([1, 0, 1, 1, 0, 1], np.uint8))
    batch, _ = make_batch([masked], target_token=False)
    assert (batch.targets[0] != IGNORED).tolist() == [False, True, True, False, True, False]


@pytest.mark.parametrize("method", ["best-fit", "decompose"])
def test_gradients_do_not_depend_on_how_a_step_is_divided(place: Path, method: str) -> None:
    ranks = Ranks()
    found = []
    for parts in (1, 3):
        model = model_of(LLAMA)
        data = Feed(config(place, method, accumulate=parts)).read(1)
        loss, _ = accumulate_gradients(model, data.batches, ranks)
        found.append((loss, [p.grad for p in model.parameters()], len(data.batches)))
    assert [each[2] for each in found] == [1, 3]
    assert found[0][0] == pytest.approx(found[1][0], abs=1e-6)
    for one, other in zip(found[0][1], found[1][1], strict=True):
        assert torch.allclose(one, other, atol=1e-6, rtol=1e-4)


def test_every_step_of_a_curriculum_has_the_same_tokens_on_ranks_of_one_length(place: Path) -> None:
    lengths = set()
    ranks = [Feed(config(place), rank, 2) for rank in (0, 1)]
    for step in range(ranks[0].steps_per_epoch):
        data = [feed.read(step) for feed in ranks]
        assert sum(each.work.tokens for each in data) == 256
        assert data[0].length == data[1].length == data[0].batches[0].input_ids.shape[1]
        rows = [set(feed.draw(step).rows.tolist()) for feed in ranks]
        assert not rows[0] & rows[1]
        lengths.add(data[0].length)
    assert lengths == {16, 32, 64}


def test_a_run_shorter_than_an_epoch_says_what_it_reads(place: Path, tmp_path: Path) -> None:
    notes = Watching()
    trainer = Trainer(config(place, out=str(tmp_path / "run"), steps=5), notes)
    assert trainer.feed.steps_per_epoch == 5
    assert notes.said == [
        f"the run reads {trainer.feed.share:.0%} of the rows, the same share of every length"
    ]


def test_rows_too_few_for_a_step_are_named(tmp_path: Path) -> None:
    # 17 bytes and the end make one row of 16 inputs; 70 make one of 64.
    build_set(tmp_path, "few", ["a" * 17] * 3 + ["b" * 70] * 9, "decompose")
    notes = Watching()
    Trainer(config(tmp_path, "few", data={"train": "few"}), notes)
    assert notes.said == [
        "rows of 16 tokens are never read: they are too few for one step of 256 tokens"
    ]


def test_the_last_stretch_reads_the_domain_too(place: Path) -> None:
    upsampling = {"share": 0.5, "domains": {"capitals": {"data": "domain", "weight": 0.5}}}
    feed = Feed(config(place, epochs=1, upsampling=upsampling))
    capitals = [
        sum(int(np.isin(b.input_ids.numpy(), [65, 66, 67]).sum()) for b in feed.read(step).batches)
        for step in range(feed.steps_per_epoch)
    ]
    half = feed.steps_per_epoch // 2
    assert not any(capitals[:half])
    assert sum(capitals[half:]) / (256 * (feed.steps_per_epoch - half)) == pytest.approx(
        0.5, abs=0.1
    )


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"acumulate": 2}, "the top of the file has no key 'acumulate'; did you mean accumulate"),
        ({"optimizer": {"weight_dekay": 1}}, r"\[optimizer\] .* did you mean weight_decay\?"),
        ({"lr": 1e-3}, r"the top of the file has no key 'lr'; did you mean lr in \[optimizer\]"),
        ({"schedules": {}}, r"did you mean \[schedule\]"),
        ({"schedule": {"name": "cosin"}}, r"\[schedule\] name=cosin: allowed is cosine, wsd"),
        ({"optimizer": {"beta1": 1.5}}, r"\[optimizer\] beta1=1.5: allowed is number from 0 to"),
        ({"tokens": 1000}, "exactly one of steps, tokens and epochs"),
        ({"model": {}}, r"\[model\] must give either family"),
        ({"optimizer": 3}, r"optimizer is a section: write \[optimizer\]"),
        ({"upsampling": {"domains": {"a": {"data": "d"}}}}, "needs epochs"),
        ({"out": ""}, "out is missing"),
    ],
)
def test_a_wrong_key_or_value_is_refused_with_what_is_allowed(
    table: dict[str, Any], said: str
) -> None:
    right = {"out": "o", "steps": 3, "model": {"family": "llama"}, "data": {"train": "d"}}
    with pytest.raises(TrainingError, match=said):
        read_config(right | table)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"model": {"family": "lama"}}, "no causal language model 'lama'; did you mean 'llama'"),
        ({"model": LLAMA | {"hiden_size": 1}}, "no setting 'hiden_size'; did you mean hidden_size"),
        ({"model": LLAMA | {"vocab_size": 99}}, "has 99 tokens and the data's tokenizer 257"),
        ({"model": GPT2 | {"n_positions": 32}}, "32 learned positions and .* up to 64 tokens"),
        ({"model": {"checkpoint": "nowhere"}}, "nowhere holds no transformers model"),
        ({"model": LLAMA | {"attention": "flex_attention"}}, "has no gradient on a CPU"),
        ({"parallel": {"shard": True}}, "parallel.shard needs several ranks"),
        ({"parallel": {"context": 2}}, "parallel.context=2: .* leave it at 1"),
        ({"growth": {"at_step": 9}}, "growth.at_step=9 is not within 6 steps"),
        ({"tokens_per_step": 100}, "the nearest tokens_per_step that does: 128"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_the_first_step(
    place: Path, tmp_path: Path, other: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        Trainer(config(place, out=str(tmp_path / "run"), **other))


def test_a_model_stacked_twice_is_its_layers_copied_by_hand() -> None:
    small = model_of(LLAMA)
    grown = stack(small, 3)
    assert grown.config.num_hidden_layers == 6
    before, after = small.state_dict(), grown.state_dict()
    by_hand = {
        key: before[key.replace(f"layers.{n}.", f"layers.{n % 2}.")]
        for key in after
        for n in [int(key.split(".")[2]) if "layers." in key else 0]
    }
    assert all(torch.equal(after[key], by_hand[key]) for key in after)
    # Copies may part ways.
    layers_of(grown)[1][2].mlp.up_proj.weight.data.zero_()
    assert layers_of(grown)[1][0].mlp.up_proj.weight.any()
    assert grown.lm_head.weight is grown.model.embed_tokens.weight


@pytest.mark.parametrize("kept", ["fresh", "copied"])
def test_growth_in_the_middle_of_a_run_keeps_it_learning(
    place: Path, tmp_path: Path, kept: str
) -> None:
    growth = {"at_step": 3, "factor": 2, "optimizer": kept}
    trainer = Trainer(config(place, out=str(tmp_path / "run"), growth=growth))
    sizes = trainer.sizes
    outcome = trainer.run()
    assert outcome.evaluation is not None
    assert outcome.evaluation.per_token < math.log(257)
    assert trainer.sizes.body - sizes.body == sizes.body - 32
    averages = trainer.optimizer.state
    steps = {int(averages[p]["step"]) for p in trainer.model.parameters()}
    assert steps == ({3} if kept == "fresh" else {6})


def rates(place: Path, steps: int, **growth: Any) -> list[float]:
    """Of every step of a run that warms up for two."""
    table = config(place, steps=steps, schedule={"warmup_steps": 2, "floor": 1e-4},
                   **({"growth": growth} if growth else {}))  # fmt: skip
    return [rate_of(table, steps)(step) for step in range(steps)]


def test_the_schedule_begins_anew_when_layers_are_stacked(place: Path) -> None:
    plain, rest = rates(place, 12), rates(place, 8)
    assert rates(place, 12, at_step=4) == plain[:4] + rest
    quick = rates(place, 12, at_step=4, warmup_steps=0)
    assert quick[:4] == plain[:4] and quick[4] > rest[0]
    assert quick[-1] == rest[-1] == pytest.approx(1e-4)
    kept = rates(place, 12, at_step=4, schedule="kept", warmup_steps=4)
    shares = [a / b for a, b in zip(kept, plain, strict=True)]
    assert shares == pytest.approx([1, 1, 1, 1, 0.25, 0.5, 0.75, 1, 1, 1, 1, 1])
    assert rates(place, 12, at_step=4, schedule="kept") == plain


@pytest.mark.parametrize("growth", [{"at_step": 10}, {"at_step": 4, "warmup_steps": 8}])
def test_a_warm_up_that_no_step_follows_is_refused_with_what_helps(
    place: Path, growth: dict[str, int]
) -> None:
    with pytest.raises(TrainingError, match="begins anew: .* give growth.warmup_steps, or growth"):
        rates(place, 12, **growth)


def test_four_times_the_layers_is_the_default_and_a_run_without_growth_is_resumed_as_before(
    place: Path,
) -> None:
    grown = config(place, growth={"at_step": 3})
    assert (grown.growth.factor, grown.growth.schedule) == (4, "fresh")
    before = {"at_step": 0, "factor": 2, "optimizer": "fresh", "warmup_steps": 0}
    assert config(place).deciding()["growth"] == before
    old = {"at_step": 3, "factor": 2, "optimizer": "fresh", "warmup_steps": 0}
    kept = config(place, growth={"at_step": 3, "factor": 2, "schedule": "kept"})
    assert kept.deciding()["growth"] == old
    assert grown.deciding()["growth"] != old


def test_bf16_is_of_the_arithmetic_and_not_of_the_weights(place: Path, tmp_path: Path) -> None:
    trainer = Trainer(config(place, "best-fit", out=str(tmp_path / "run"), precision="bf16"))
    outcome = trainer.run()
    assert {each.dtype for each in trainer.model.parameters()} == {torch.float32}
    assert outcome.evaluation is not None
    assert outcome.evaluation.per_token < math.log(257)
    tokenizer = AutoTokenizer.from_pretrained(outcome.folder / "model")
    assert tokenizer.decode(tokenizer("to be")["input_ids"]) == "to be"


def test_the_cost_law_is_found_and_predicts_lengths_left_out() -> None:
    def step(length: int, noise: float = 1.0) -> Measured:
        work = Work(8192, 8192 // length, 8192 * length, 0)
        seconds = 1e-5 * 8192 + 2e-9 * 8192 * length + 1e-4 * (8192 // length)
        return Measured(work, seconds * noise)

    steps = [step(n) for n in (64, 128, 256, 512, 1024) for _ in range(6)]
    found = fit([*steps, step(64, noise=9.0)])
    assert (found.a, found.b, found.c) == pytest.approx((1e-5, 2e-9, 1e-4), rel=1e-3)
    assert found.worst < 1e-3
    assert found.unseen is not None and found.unseen < 1e-3
    assert found.seconds(step(2048).work) == pytest.approx(step(2048).seconds, rel=1e-3)
    with pytest.raises(TrainingError, match="at least 2 lengths, here are 1"):
        fit([step(64), step(64)])


def test_flops_are_those_counted_by_hand() -> None:
    sizes = sizes_of(model_of(LLAMA))
    layer = 32 * 32 * 2 + 32 * 16 * 2 + 3 * 32 * 64 + 2 * 32
    assert sizes.body == 2 * layer + 32
    assert sizes.parameters == sizes.body + 257 * 32
    assert sizes.parameter_flops(Work(10, 1, 0, 0)) == 60 * sizes.parameters
    assert sizes.attention_flops(Work(10, 1, 100, 55)) == 12 * 2 * 32 * 55


def test_evaluation_is_that_of_each_document_alone(place: Path) -> None:
    model = model_of(LLAMA)
    found = Validation(place / "validation", 10, 48, 200).run(model, Ranks())
    store = TokenStore(place / "validation" / "tokens")
    losses = []
    for start, length in zip(*store.spans(np.arange(10)), strict=True):
        size = np.array([min(48, length)])
        ids = torch.from_numpy(store.gather(np.array([start]), size).astype(np.int64))[None]
        losses.append(token_losses(model, Batch(ids[:, :-1], ids[:, 1:]))[0].detach())
    assert found.documents == 10
    assert found.per_token == pytest.approx(float(torch.cat(losses).mean()), abs=1e-5)
    assert found.per_document == pytest.approx(np.mean([float(x.mean()) for x in losses]), abs=1e-5)
    late = float(torch.cat([x[32:] for x in losses]).mean())
    assert found.by_position[32] == pytest.approx(late, abs=1e-5)


def test_a_run_of_another_config_or_anything_else_is_not_written_over(
    place: Path, tmp_path: Path
) -> None:
    out = str(tmp_path / "run")
    train(config(place, out=out, steps=1))
    with pytest.raises(TrainingError, match=r"holds a run with optimizer.lr=0.003 and not 0.1"):
        Trainer(config(place, out=out, steps=1, optimizer={"lr": 0.1}))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").touch()
    with pytest.raises(TrainingError, match="holds something else than a run"):
        Trainer(config(place, out=str(tmp_path / "other")))


def test_a_loss_that_is_no_number_stops_the_run(place: Path, tmp_path: Path) -> None:
    trainer = Trainer(config(place, out=str(tmp_path / "run")))
    next(trainer.model.parameters()).data.fill_(math.nan)
    with pytest.raises(TrainingError, match="of step 0 is not finite: lower optimizer.lr"):
        trainer.run()


def test_text_becomes_a_trained_model_by_two_commands(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("to be or not to be, that is the question. " * 300)
    for name in ("train", "held-out"):
        built = CliRunner().invoke(
            sequences,
            ["build", str(tmp_path / "text.txt"), "--out", str(tmp_path / name), "-t", "bytes",
             "--method", "decompose", "-n", "64", "--set", "min_length=16"],
        )  # fmt: skip
        assert built.exit_code == 0, built.output
    settings = "\n".join(f"{key} = {json.dumps(value)}" for key, value in LLAMA.items())
    (tmp_path / "run.toml").write_text(
        'out = "run"\ntokens_per_step = 512\nsteps = 12\n'
        f'[model]\n{settings}\n[data]\ntrain = "train"\nvalidation = "held-out"\n'
        "[optimizer]\nlr = 0.01\n[log]\nevery = 1\n[evaluation]\nevery = 6\n"
    )
    done = CliRunner().invoke(train_verb, [str(tmp_path / "run.toml")], standalone_mode=False)
    assert done.exception is None, done.output
    assert "12 steps done; the model is in model/" in done.output
    assert "attention FLOPs in" in done.output
    assert (tmp_path / "run" / "loss.png").stat().st_size > 1000
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "model")
    assert model.config.num_hidden_layers == 2
    assert SequenceSet(tmp_path / "train").manifest["method"] == "decompose"
    table = read_table([tmp_path / "run" / "log.jsonl"], find_law("chinchilla"))
    assert table.columns["D"].tolist() == [6 * 512, 12 * 512]
    assert table.columns["L"][1] < table.columns["L"][0]
