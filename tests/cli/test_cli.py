"""The verbs, as a user types them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from lengthwise.api.loading import wrap
from lengthwise.cli.main import main
from lengthwise.testing.tiny import tiny_model
from tests.tiny_tokenizers import byte_level

run_module = import_module("lengthwise.cli.run")

FIELDS = (
    "recipe", "model", "dtype", "device", "length", "question", "answer", "agreement", "kl",
    "copy_loss", "needle_loss", "loss_by_position", "ttft_s", "tokens_per_s", "kv_bytes",
    "kv_peak_bytes", "accepted_per_step", "lossless", "refused",
)  # fmt: skip


def lengthwise(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str
) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["lengthwise", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    captured = capsys.readouterr()
    return int(ended.value.code or 0), captured.out, captured.err


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    return lambda *arguments: lengthwise(capsys, monkeypatch, *arguments)


def test_run_prints_the_answer_and_its_costs_as_json(call) -> None:
    status, out, err = call("run", "Say hello.", "--max-new-tokens", "8", "--json")
    assert status == 0, err
    found = json.loads(out)
    assert list(found) == ["recipe", "model", "dtype", "device", "prompt_tokens", "reused_tokens",
                           "text", "token_ids", "ttft_s", "tokens_per_s", "kv_bytes",
                           "kv_peak_bytes", "kv_offloaded_bytes", "accepted_per_step",
                           "finish_reason", "accepted", "draft_s", "verify_s", "decode_s",
                           "notes"]  # fmt: skip
    assert (found["recipe"], found["model"]) == ("full", "SmolLM2-135M-Instruct")
    assert found["dtype"] in ("bfloat16", "float32") and found["device"] == "cpu"
    assert found["prompt_tokens"] > 8 and found["kv_peak_bytes"] >= found["kv_bytes"]
    assert found["text"] and found["kv_bytes"] > 0
    assert "SmolLM2-135M-Instruct in" in err


def test_run_ends_its_text_in_a_whole_character(call, monkeypatch) -> None:
    with wrap(tiny_model("llama", vocab_size=262), byte_level()) as model:
        halves = [
            n for n in range(1, 24)
            if model.generate("a", max_new_tokens=n, stop_ids=[]).text.endswith("\ufffd")
        ]  # fmt: skip
        assert halves
        monkeypatch.setattr(run_module.ModelChoice, "open", lambda _: model)
        monkeypatch.setattr(model, "stop_ids", list)
        for n in halves[:4]:
            status, out, _ = call("run", "a", "--raw", "--max-new-tokens", str(n), "--json")
            assert status == 0
            found = json.loads(out)
            assert not found["text"].endswith("\ufffd") and len(found["token_ids"]) == n
            assert call("run", "a", "--raw", "--max-new-tokens", str(n))[1] == found["text"] + "\n"
            whole = model.generate("a", max_new_tokens=n, stop_ids=[]).text
            assert whole.rstrip("\ufffd") == found["text"]


def test_run_leaves_a_text_within_its_budget_whole_and_says_so(call) -> None:
    asked = ("run", "Say hello.", "--max-new-tokens", "4")
    _, full, _ = call(*asked)
    status, out, err = call(*asked, "-r", "snapkv(budget=1024)")
    assert (status, out) == (0, full)
    assert "nothing was dropped" in err
    status, _, err = call(*asked, "-r", "snapkv(budget=8B)")
    assert status == 2 and "does not pay for one token" in err


def test_compare_says_what_dropped_nothing_and_refuses_one_row(call) -> None:
    status, out, err = call(
        "compare", "-n", "512", "-r", "snapkv(budget=1024)", "-r", "h2o(budget=8B)",
        "--no-probes", "--max-new-tokens", "2", "-q", "What is this?", "--json",
    )  # fmt: skip
    assert status == 0, err
    full, whole, refused = (json.loads(line) for line in out.splitlines())
    assert whole["refused"] is None and whole["answer"] == full["answer"]
    assert any("nothing was dropped" in note for note in whole["notes"])
    assert "does not pay for one token" in refused["refused"]


def test_a_method_shows_its_best_known_setting(call) -> None:
    status, out, _ = call("methods", "razor")
    assert status == 0 and "best known setting: razor(buffer=256, compensate=false)" in out
    status, out, _ = call("methods", "razor", "--json")
    assert json.loads(out)["best_known"] == "razor(buffer=256, compensate=false)"


@pytest.mark.slow
def test_compare_prints_a_row_a_recipe_and_writes_the_report(call, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    status, out, err = call(
        "compare", "-n", "768", "-r", "streaming(window=128)", "-r", "snapkv(budget=25%)",
        "-r", "streaming + lm_infinite", "--max-new-tokens", "6", "-q", "What is this?", "--json",
        "--html", str(page),
    )  # fmt: skip
    assert status == 0, err
    rows = [json.loads(line) for line in out.splitlines()]
    assert [row["recipe"] for row in rows][0] == "full"
    assert len(rows) == 4
    assert all(list(row)[: len(FIELDS)] == list(FIELDS) for row in rows)
    full, streaming, snapkv, refused = rows
    assert full["agreement"] == 1.0 and full["kl"] == 0.0 and full["lossless"]
    assert streaming["kv_bytes"] < full["kv_bytes"] / 3
    assert snapkv["kv_bytes"] < full["kv_bytes"] / 2
    assert snapkv["kv_peak_bytes"] >= full["kv_bytes"] * 0.9
    assert refused["refused"] and refused["answer"] is None
    assert "streaming" in page.read_text(encoding="utf-8")
    assert list(tmp_path.iterdir()) == [page]


def test_compare_scores_a_known_answer_and_picks_for_a_goal(call) -> None:
    status, out, err = call(
        "compare", "-n", "200", "--max-new-tokens", "8", "-r", "streaming(window=64)",
        "-q", "What is this?", "--expect", "the", "--for", "memory",
    )  # fmt: skip
    assert status == 0, err
    table = " ".join(out.split())
    assert "expected_found" in table and "expected_loss" in table
    assert "too short for the probes" in table
    assert "For memory: " in table and "thread" in table
    assert re.search(r"agreement and kl over the last 100 of 200 tokens", table)


def test_methods_lists_everything_registered(call) -> None:
    status, out, _ = call("methods")
    assert all(line.startswith("  ") for line in out.splitlines() if " (20" in line)
    assert status == 0
    assert {"yarn", "infllm", "snapkv", "kivi", "lookup"} <= set(out.split())
    status, out, _ = call("methods", "kivi", "--json")
    assert json.loads(out)["question"] == "codecs"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("compare", "-r", "yarm"), "did you mean 'yarn'"),
        (("run", "hi", "-r", "yarn(factr=2)"), "factor"),
        (("run", "hi", "-r", "snapkv(budget=0)"), "0"),
        (("run", "  "), "prompt is empty"),
        (("run", "hi", "--temperature", "-1"), "temperature"),
        (("compare", "no-such-file.txt"), "no-such-file.txt"),
        (("compare", "--html", "no/such/folder.html"), "no folder"),
        (("compare", "-n", "10000000"), "more than"),
        (("compare", "-n", "100", "--probes"), "too short for the probes"),
        (("compare", "-q", "Who?", "--expect", "a", "--expect", "b"), "one --expect for each -q"),
        (("compare", "-q", "Who?", "--expect", " . "), "no letter or digit"),
        (("compare", "--expect", "a\udcff"), "an expected answer is not UTF-8 text"),
        (("compare", "--for", "cheapness"), "'quality', 'speed', 'memory'"),
        (("run", "hi", "--model", "./no-such-folder"), "no-such-folder"),
        (("comapre",), "compare"),
        (("methods", "kivy"), "kivi"),
        (("calibrate", "nothing"), "razor"),
        (("run", "-d", "-"), "cannot be both"),
        (("run", "a\udcff"), "the prompt is not UTF-8 text"),
        (("compare", "-q", "a\udcff"), "a question is not UTF-8 text"),
        (("check", "one", "--model", "other"), "two models"),
        (("compare", "--html", "/"), "this is a folder"),
        (("datastore", "build", "no.txt", "--out", "/"), "this is a folder"),
        (("calibrate", "specdec", "--out", "/"), "this is a folder"),
    ],
)
def test_bad_input_is_one_line_and_a_status(call, arguments: tuple[str, ...], words: str) -> None:
    status, out, err = call(*arguments)
    assert status != 0
    assert words in err, err
    assert "Traceback" not in err + out


@pytest.mark.parametrize("content", [b"", b"   \n", b"\x00\x01\x02PNG"])
def test_a_document_without_text_is_refused(call, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "document.txt"
    path.write_bytes(content)
    status, _, err = call("compare", str(path))
    assert status == 2 and "document.txt" in err and "Traceback" not in err


@pytest.mark.parametrize("arguments", [("--help",), ("methods",), ("check", "--help")])
def test_what_only_lists_does_not_wait_for_torch(arguments: tuple[str, ...]) -> None:
    code = f"import sys; sys.argv = ['lengthwise', *{arguments!r}]\n" \
        "from lengthwise.cli import main\ntry: main()\n" \
        "except SystemExit as ended: assert not ended.code\n" \
        "assert not {'torch', 'transformers'} & set(sys.modules)"  # fmt: skip
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize("words, completed", [("lengthwise co", "compare"),
                                              ("lengthwise methods snap", "snapkv")])  # fmt: skip
def test_completion_in_the_shell_does_not_wait_for_torch(words: str, completed: str) -> None:
    code = "import sys\nfrom lengthwise.cli import main\ntry: main()\nfinally:\n" \
        "    assert not {'torch', 'transformers'} & set(sys.modules)"  # fmt: skip
    asked = {"_LENGTHWISE_COMPLETE": "bash_complete", "COMP_WORDS": words,
             "COMP_CWORD": str(words.count(" "))}  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                          env={**os.environ, **asked})  # fmt: skip
    assert done.stdout.split() == [f"plain,{completed}"], done.stderr


def test_methods_lists_options_where_asked(call) -> None:
    _, plain, _ = call("methods")
    _, every, _ = call("methods", "--options")
    line = "bits=none (2, 4, 8, 16 or none)"
    assert line not in plain and line in every
    assert {each for each in plain.splitlines() if each.startswith("  ")} <= set(every.splitlines())


def test_an_interrupted_compare_keeps_its_finished_rows(call, monkeypatch) -> None:
    from lengthwise.evaluation.compare import comparison as module

    measured = module._measure
    calls = []

    def interrupted(*arguments):
        calls.append(arguments[2])
        if len(calls) > 1:
            raise KeyboardInterrupt
        yield from measured(*arguments)

    monkeypatch.setattr(module, "_measure", interrupted)
    status, out, err = call("compare", "-n", "512", "--no-probes", "--max-new-tokens", "4",
                            "-r", "streaming", "--json")  # fmt: skip
    assert status == 130
    assert [json.loads(line)["recipe"] for line in out.splitlines()] == ["full"]
    assert "interrupted" in err


def test_calibrating_an_acceptance_head_needs_a_file(call) -> None:
    status, _, err = call("calibrate", "specdec")
    assert status == 2 and "--out FILE" in err
