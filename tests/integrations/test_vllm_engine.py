"""Our drafters inside vLLM: the tokens are those of vLLM without them (`make test-vllm`)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lengthwise.testing.tiny import tiny_model

pytest.importorskip("vllm", reason="vLLM has an environment of its own: make test-vllm")

PROPOSERS = ("LookupProposer", "RecyclingProposer", "FusedProposer")
MODEL = os.environ.get("LENGTHWISE_VLLM_MODEL", "")
LIST = "apples, pears, plums, figs, dates, limes, grapes, melons"
TEXTS = [
    f"Shopping list: {LIST}. Again the shopping list: {LIST}. And once more the shopping list:",
    "def add(a, b):\n    return a + b\n\ndef sub(a, b):\n    return a - b\n\ndef mul(a, b):\n",
    "The capital of France is",
]
# vLLM runs in a process of its own, so that one that ends badly ends no other test.
PROGRAM = """
import json, sys
from vllm import LLM, SamplingParams
asked = json.loads(sys.argv[1])
engine = LLM(**asked["engine"])
prompts = asked["prompts"]
if asked["ids"]:
    prompts = [{"prompt_token_ids": ids} for ids in prompts]
out = engine.generate(prompts, SamplingParams(**asked["sampling"]), use_tqdm=False)
counts = {m.name: m.value for m in engine.get_metrics() if hasattr(m, "value")}
print("FOUND" + json.dumps({
    "tokens": [list(each.outputs[0].token_ids) for each in out],
    "accepted": counts.get("vllm:spec_decode_num_accepted_tokens", 0),
    "drafts": counts.get("vllm:spec_decode_num_drafts", 0),
}))
"""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("tiny")
    model = tiny_model(
        "llama", vocab_size=64, hidden_size=128, intermediate_size=128, head_dim=32,
        max_position_embeddings=512,
    )  # fmt: skip
    model.save_pretrained(folder)
    return str(folder)


def run(
    model: str, proposer: str | None, prompts: list[Any], most: int = 5,
    sampling: dict[str, Any] | None = None, **engine: Any,
) -> dict[str, Any]:  # fmt: skip
    ids = not isinstance(prompts[0], str)
    known = {
        "model": model, "dtype": "float32", "max_model_len": 384, "enforce_eager": True,
        "max_num_seqs": 8, "disable_log_stats": False, "skip_tokenizer_init": ids,
    }  # fmt: skip
    if proposer is not None:
        known["speculative_config"] = {
            "method": "custom_class", "num_speculative_tokens": most,
            "model": f"lengthwise.integrations.vllm.{proposer}",
        }  # fmt: skip
    chosen = {"temperature": 0.0, "max_tokens": 48, "ignore_eos": True, "detokenize": not ids}
    asked = {"engine": known | engine, "prompts": prompts, "ids": ids,
             "sampling": chosen | (sampling or {})}  # fmt: skip
    environment = {
        **os.environ, "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "HF_HUB_OFFLINE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(asked)], capture_output=True, text=True,
        env=environment, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    lines = [line for line in done.stdout.splitlines() if line.startswith("FOUND")]
    assert lines, (done.stdout + done.stderr)[-3000:]
    found: dict[str, Any] = json.loads(lines[-1].removeprefix("FOUND"))
    return found


def random_prompts() -> list[list[int]]:
    """Of unequal lengths, one longer than a piece of a prompt, more of them than run at once."""
    lengths = (1, 9, 14, 200, 19, 24, 29, 34, 3, 60)
    return [[(3 * i + n) % 60 + 3 for i in range(length)] for n, length in enumerate(lengths)]


@pytest.fixture(scope="module")
def plain(tiny: str) -> list[list[int]]:
    found: list[list[int]] = run(tiny, None, random_prompts())["tokens"]
    return found


@pytest.mark.parametrize("proposer", PROPOSERS)
def test_greedy_tokens_are_those_without_a_proposer(
    tiny: str, plain: list[list[int]], proposer: str
) -> None:
    """Prompts read in pieces beside rows that decode, rows that come and go."""
    found = run(tiny, proposer, random_prompts(), max_num_batched_tokens=64)
    assert found["tokens"] == plain and found["drafts"] > 0


def test_the_end_of_the_longest_text_is_reached(tiny: str) -> None:
    most: dict[str, Any] = {"max_model_len": 64, "sampling": {"max_tokens": 64}}
    prompts = [prompt for prompt in random_prompts() if len(prompt) < 40]
    right = run(tiny, None, prompts, **most)
    assert run(tiny, "FusedProposer", prompts, **most)["tokens"] == right["tokens"]


@pytest.mark.skipif(not MODEL, reason="a real model comes from make test-vllm")
def test_on_a_real_model_guesses_come_true() -> None:
    right = run(MODEL, None, TEXTS)
    accepted = {}
    for proposer in PROPOSERS:
        found = run(MODEL, proposer, TEXTS)
        assert found["tokens"] == right["tokens"], proposer
        accepted[proposer] = found["accepted"]
    print(f"accepted of {sum(map(len, right['tokens']))}: {accepted}")
    assert accepted["LookupProposer"] > 40 and accepted["RecyclingProposer"] > 5
    assert accepted["FusedProposer"] > 0.75 * accepted["LookupProposer"]


def test_a_recipe_and_its_options_come_by_the_configuration(tiny: str) -> None:
    own = {"lengthwise": {"recipe": "lookup(min_match=1)", "least": 0.0}}
    more = run(tiny, "Proposer", random_prompts()[:3], additional_config=own)["drafts"]
    few = run(tiny, "LookupProposer", random_prompts()[:3])["drafts"]
    assert more > few


def test_what_cannot_run_ends_before_anything_does(tiny: str) -> None:
    with pytest.raises(AssertionError, match="give lookup, recycling or lookup"):
        run(tiny, "Proposer", [[3, 4]], additional_config={"lengthwise": {"recipe": "snapkv"}})
