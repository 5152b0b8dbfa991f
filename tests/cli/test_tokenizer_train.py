"""`lengthwise tokenizer train`: from files to a folder, and what it says."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from lengthwise._utils.locks import alone_in
from tests.called import called
from tests.tokenization.trainers.small_corpus import texts


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    rows = (json.dumps({"text": text, "body": "x y z"}) for text in texts())
    (tmp_path / "rows.jsonl").write_text("\n".join(rows))
    (tmp_path / "folder").mkdir()
    for number, text in enumerate(texts(12, seed=2)):
        (tmp_path / "folder" / f"{number}.txt").write_text(text)
    (tmp_path / "folder" / "bad.txt").write_bytes(b"\x81\xff\xfe\x00")
    return tmp_path


def test_it_says_what_it_wrote_and_measured(world: Path) -> None:
    status, out, err = called("tokenizer", "train", "bpe(digits=r2l)", "rows.jsonl", "folder",
                              "-o", "mine", "--size", "400", "--held-out", "0.1")  # fmt: skip
    assert status == 0, err
    assert "mine: bpe(digits=r2l), 400 tokens, of 72 texts" in out
    assert "held out: " in out and "words a token" in out and "comes back as it was" in out
    assert "skipped: 1 " in out
    assert not (world / "mine.run").exists()
    loaded = AutoTokenizer.from_pretrained("mine")
    assert loaded.decode(loaded.encode("the house")) == "the house"
    before = (world / "mine" / "tokenizer.json").read_bytes()
    # A folder of ours is written again without being asked.
    assert called("tokenizer", "train", "bpe(digits=r2l)", "rows.jsonl", "folder", "-o", "mine",
                  "--size", "400", "--held-out", "0.1")[0] == 0  # fmt: skip
    assert (world / "mine" / "tokenizer.json").read_bytes() == before


def test_less_was_learned_than_asked_is_said(world: Path) -> None:
    status, out, _ = called("tokenizer", "train", "bpe", "rows.jsonl", "-o", "mine",
                            "--size", "400", "--text-field", "body")  # fmt: skip
    assert status == 0 and "400 tokens were asked for: there was nothing more to learn" in out
    assert "nothing more" not in called("tokenizer", "train", "bpe", "rows.jsonl", "-o", "mine",
                                        "--size", "257", "--held-out", "0")[1]  # fmt: skip


def test_tokens_that_were_learned_and_to_be_added_are_said(world: Path) -> None:
    status, out, _ = called("tokenizer", "train", "bpe", "rows.jsonl", "-o", "mine", "--size",
                            "320", "--special", "options", "--held-out", "0")  # fmt: skip
    assert status == 0 and "mine: bpe, 319 tokens" in out
    assert "320 tokens were asked for: 1 that were to be added" in out
    assert "nothing more to learn" not in out
    # Nothing was to be held out, so that is no fault of the text.
    assert out.endswith("nothing was held out, so nothing is measured\n")


def test_one_long_line_is_held_out_in_part(world: Path) -> None:
    (world / "line.txt").write_text("the house by the river was sold in 2010 . " * 5000)
    status, out, _ = called("tokenizer", "train", "bpe", "line.txt", "-o", "mine",
                            "--size", "270")  # fmt: skip
    assert status == 0 and "held out: " in out


def test_the_folder_that_one_is_in_and_work_within_out(world: Path) -> None:
    words = ("tokenizer", "train", "bpe", str(world / "rows.jsonl"), "--size", "300")
    (world / "in").mkdir()
    os.chdir(world / "in")
    status, out, err = called(*words, "-o", ".")
    assert status == 0, err
    assert out.startswith(".: bpe, 300 tokens") and (world / "in" / "tokenizer.json").is_file()
    assert not (world / "in.run").exists()
    # What lies in OUT is the work of the call that was stopped, and of one that was killed.
    (world / "new" / "w").mkdir(parents=True)
    (world / "new" / ".lengthwise.json.7.aside").write_text("{")
    (world / "new" / "w" / ".training.json.7.aside").write_text("{")
    status, _, err = called(*words, "-o", str(world / "new"), "--work", str(world / "new" / "w"))
    assert status == 0, err
    assert not (world / "new" / "w").exists()


@pytest.mark.parametrize("out", ["w/mine", "w"])
def test_a_tokenizer_in_its_own_work_folder_is_refused(world: Path, out: str) -> None:
    (world / "w").mkdir()
    status, _, err = called("tokenizer", "train", "bpe", "rows.jsonl", "-o", out, "--size", "300",
                            "--work", "w")  # fmt: skip
    assert status == 2 and "lies in the work folder w, which is removed at the end" in err
    assert list((world / "w").iterdir()) == []


def test_a_folder_of_others_needs_force(world: Path) -> None:
    words = ("tokenizer", "train", "bpe", "rows.jsonl", "-o", "folder", "--size", "300")
    status, _, err = called(*words)
    assert status == 2 and "holds no tokenizer of lengthwise" in err
    assert called(*words, "--force")[0] == 0
    assert (world / "folder" / "0.txt").is_file() and (
        world / "folder" / "tokenizer.json"
    ).is_file()


def test_killed_the_same_command_goes_on(world: Path) -> None:
    big = "\n".join(f"{text}\n{number}" for number, text in enumerate(texts(500)))
    (world / "big.txt").write_text(big)
    words = ["tokenizer", "train", "swe(again=5)", "big.txt", "-o", "mine", "--size", "420"]
    running = subprocess.Popen([sys.executable, "-m", "lengthwise", *words], stderr=subprocess.PIPE)
    state = world / "mine.run" / "kind" / "symbols.json"
    while running.poll() is None and not state.exists():
        time.sleep(0.01)
    if running.poll() is None:
        os.kill(running.pid, signal.SIGKILL)
    running.communicate()
    assert state.exists() and not (world / "mine").exists()
    status, out, err = called(*words)
    assert status == 0, err
    assert not (world / "mine.run").exists()
    other = [*words[:-3], "other", "--size", "420"]
    assert called(*other)[0] == 0
    first, again = ((world / name / "tokenizer.json").read_bytes() for name in ("mine", "other"))
    assert first == again


def test_what_of_a_folder_is_not_read_is_said(world: Path) -> None:
    for name in ("data.csv", "blob.bin", "other.bin"):
        (world / "folder" / name).write_bytes(b"a,b")
    out = called("tokenizer", "train", "bpe", "folder", "-o", "mine", "--size", "300")[1]
    assert "not read: 2 .bin, 1 .csv" in out and "--held-out 0.02 of so little text" in out


@pytest.mark.parametrize(
    "asked",
    [("--text-field", "body"), ("--suffix", ".txt"), ("--encoding", "cp1252", "page.html")],
    ids=lambda asked: asked[0],
)
def test_options_that_nothing_given_has_a_use_for_are_refused(
    world: Path, asked: tuple[str, ...]
) -> None:
    (world / "table.csv").write_text("text,body\n" + "the house,x\n" * 50)
    (world / "page.html").write_text("<p>" + "the house by the river " * 50)
    given = "table.csv" if len(asked) == 2 else "page.html"
    words = ("tokenizer", "train", "bpe", given, "-o", "mine", "--size", "300")
    status, _, err = called(*words, *asked[:2])
    assert status == 2 and f"{asked[0]} {asked[1]}" in err and "leave it out" in err.lower()
    assert not (world / "mine.run").exists()
    assert called(*words)[0] == 0


@pytest.mark.skipif(sys.platform == "win32", reason="folders are not locked there")
def test_two_trainings_do_not_work_in_one_folder_at_a_time(world: Path) -> None:
    words = ("tokenizer", "train", "bpe", "rows.jsonl", "-o", "mine", "--size", "300")
    with alone_in(world / "mine.run", "training"):
        status, _, err = called(*words)
    assert status == 2 and "another training is at work in" in err and "wait for it" in err
    assert not (world / "mine").exists()
    assert called(*words)[0] == 0
