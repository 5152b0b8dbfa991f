"""Families without attention, or with some: they train, and are charged for what they compute."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM

from lengthwise.training.config import TrainingError
from lengthwise.training.trainer import Trainer, train
from tests.training_runs import LLAMA, build_sets, config, log_of, same_weights, stop

MAMBA: dict[str, Any] = {
    "family": "mamba", "hidden_size": 32, "num_hidden_layers": 2, "state_size": 4,
}  # fmt: skip
HYBRID = {key: value for key, value in LLAMA.items() if key != "family"}
STATES = {"mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 8, "mamba_chunk_size": 16}
# With layers that attend and channels of their query heads.
FAMILIES: dict[str, tuple[dict[str, Any], int, int]] = {
    "mamba": (MAMBA, 0, 0),
    "mamba2": (MAMBA | {"family": "mamba2", "num_heads": 4, "head_dim": 16, "n_groups": 1,
                        "chunk_size": 16}, 0, 0),
    "rwkv": ({"family": "rwkv", "hidden_size": 32, "num_hidden_layers": 2,
              "attention_hidden_size": 32}, 0, 0),
    "bamba": (HYBRID | STATES | {"family": "bamba", "attn_layer_indices": [1]}, 1, 32),
    "falcon_h1": (HYBRID | STATES | {"family": "falcon_h1", "mamba_d_ssm": 64,
                                     "mamba_n_groups": 1}, 2, 32),
    "lfm2": (HYBRID | {"family": "lfm2", "layer_types": ["conv", "full_attention"]}, 1, 32),
    "minimax": (HYBRID | {"family": "minimax", "head_dim": 8, "num_local_experts": 2,
                          "layer_types": ["linear_attention", "full_attention"]}, 1, 32),
}  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_sets(tmp_path_factory.mktemp("families"))


@pytest.mark.parametrize("family", FAMILIES)
def test_attention_flops_are_those_of_layers_that_attend(
    place: Path, tmp_path: Path, family: str
) -> None:
    model, layers, width = FAMILIES[family]
    outcome = train(config(place, out=str(tmp_path / "run"), model=model, steps=3))
    records = [each for each in log_of(outcome.folder) if each["kind"] == "train"]
    assert records[-1]["loss"] < records[0]["loss"]
    for each in records:
        assert each["attention_flops"] == 12 * layers * width * each["pairs"]
        assert each["parameter_flops"] > 0
    assert outcome.evaluation is not None and outcome.evaluation.per_token > 0
    left = AutoModelForCausalLM.from_pretrained(outcome.folder / "model")
    assert left.config.model_type == family


def test_a_state_space_run_is_interrupted_grown_and_gone_on_with(
    place: Path, tmp_path: Path
) -> None:
    other = {"model": MAMBA, "growth": {"at_step": 3, "factor": 2}}
    whole = train(config(place, out=str(tmp_path / "whole"), **other)).folder
    folder = stop(place, tmp_path / "run", 4, **other)
    train(config(place, out=str(folder), **other))
    assert same_weights(folder, whole)
    assert log_of(folder) == log_of(whole)
    grown = AutoModelForCausalLM.from_pretrained(folder / "model")
    assert grown.config.num_hidden_layers == 4


@pytest.mark.parametrize("family", ["mamba", "bamba"])
def test_states_go_on_over_documents_so_packed_rows_are_refused_by_name(
    place: Path, tmp_path: Path, family: str
) -> None:
    model = FAMILIES[family][0]
    with pytest.raises(TrainingError, match=f"family '{family}' does not keep documents in one"):
        Trainer(config(place, "best-fit", out=str(tmp_path / "run"), model=model))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "model",
    [
        MAMBA | {"hidden_size": 0},
        LLAMA | {"pad_token_id": 999},
        LLAMA | {"num_attention_heads": 0},
        LLAMA | {"hidden_act": "gellu"},
    ],
)
def test_sizes_that_no_model_has_are_one_line(
    place: Path, tmp_path: Path, model: dict[str, Any]
) -> None:
    with pytest.raises(TrainingError) as refused:
        Trainer(config(place, out=str(tmp_path / "run"), model=model))
    assert f"'{model['family']}'" in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.slow
def test_torchrun_starts_the_module_that_the_help_names(place: Path) -> None:
    settings = "\n".join(f"{key} = {json.dumps(value)}" for key, value in LLAMA.items())
    (place / "run.toml").write_text(
        f'out = "by-module"\ntokens_per_step = 256\nsteps = 2\n[model]\n{settings}\n'
        '[data]\ntrain = "decompose"\n[log]\nevery = 1\nplot_every = 0\n'
    )
    source = str(Path(__file__).parents[2] / "src")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    environment["PYTHONPATH"] = os.pathsep.join([source, os.environ.get("PYTHONPATH", "")])
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command = [*torchrun, "--nproc-per-node", "2", "-m", "lengthwise", "train"]

    def start(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, str(place / "run.toml"), *arguments], env=environment, timeout=180,
            capture_output=True, text=True,
        )  # fmt: skip

    done = start()
    assert done.returncode == 0, done.stderr[-3000:]
    assert "2 steps done; the model is in model/" in done.stdout
    assert log_of(place / "by-module")[0]["ranks"] == 2
    # What one rank finds is said by it, and no rank waits for ever.
    refused = start("--extend", "--out", str(place / "new"))
    assert refused.returncode != 0
    assert "holds no run that could be extended" in refused.stderr
    assert not (place / "new").exists()


def test_the_module_is_the_console_script() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lengthwise", "train", "--help"], capture_output=True, text=True,
        timeout=60,
    )  # fmt: skip
    assert done.returncode == 0
    assert "torchrun --nproc-per-node N -m lengthwise train CONFIG" in " ".join(done.stdout.split())
