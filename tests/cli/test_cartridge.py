"""`lengthwise cartridge`: trained, asked, gone on with, put together."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bad_world import make_world
from tests.called import called

SMALL = ("--tokens", "12", "--pairs", "4", "--steps", "2", "--batch", "2", "--min-chunk", "10",
         "--max-chunk", "20", "--question-tokens", "6", "--answer-tokens", "6")  # fmt: skip
TRAIN = ("cartridge", "train", "doc.txt", "-m", "talker", *SMALL)


def with_(option: str, value: str) -> tuple[str, ...]:
    """The command that is right, with one of its numbers another."""
    at = TRAIN.index(option) + 1
    return (*TRAIN[:at], value, *TRAIN[at + 1 :], "-o", "n")


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    make_world(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_one_is_trained_asked_and_gone_on_with(world: Path) -> None:
    status, out, err = called(*TRAIN, "-o", "c.session", "--held-out", "2")
    assert status == 0, err
    assert "c.session: 12 trained tokens, 2 steps" in out
    # The corpus is longer than this model reads, so its loss is not told.
    assert "nats a token of held-out answers" in out and "with it" in out
    assert "step 2/2: loss" in err
    status, said, err = called("run", "-q", "Who?", "--session", "c.session", "-m", "talker",
                               "--max-new-tokens", "4", "--json")  # fmt: skip
    assert status == 0, err
    assert json.loads(said)["reused_tokens"] == 12
    # Done already: the same command writes the same.
    before = (world / "c.session").read_bytes()
    status, again, err = called(*TRAIN, "-o", "c.session", "--held-out", "2")
    assert (status, again) == (0, out), err
    assert (world / "c.session").read_bytes() == before
    status, _, err = called(*TRAIN, "-o", "c.session", "--seed", "1")
    assert status == 2 and "holds a cartridge's run with held_out=2 and not 0" in err


def test_runs_share_pairs_and_are_put_together(world: Path) -> None:
    for name, rate in (("a", "0.1"), ("b", "0.01")):
        status, _, err = called(*TRAIN, "-o", f"{name}.session", "--lr", rate, "--study", "asked",
                                "--work", f"work-{name}")  # fmt: skip
        assert status == 0, err
    assert not list(world.glob("work-*/pairs"))
    status, out, err = called("cartridge", "compose", "a.session", "b.session", "-m", "talker",
                              "-o", "ab.session", "--rotate")  # fmt: skip
    assert (status, out) == (0, "ab.session: 24 trained tokens of 2 cartridges\n"), err
    status, said, err = called("run", "-q", "Who?", "--session", "ab.session", "-m", "talker",
                               "--max-new-tokens", "4", "--json")  # fmt: skip
    assert status == 0 and json.loads(said)["reused_tokens"] == 24, err


def test_what_is_wrong_is_one_line(world: Path) -> None:
    status, _, err = called("read", "doc.txt", "-m", "talker", "--save", "s.session")
    assert status == 0, err
    put = ("cartridge", "compose", "-m", "talker", "-o", "n")
    for words, told in (
        ((*TRAIN, "-o", "n", "-r", "snapkv"), "drafters and codecs"),
        ((*TRAIN, "-o", "n", "-r", "yarn(factor=2)"), "were trained where they stand"),
        ((*TRAIN, "-o", "doc.txt", "--force"), "would be lost"),
        ((*TRAIN, "-o", "latin.txt"), "no session of lengthwise"),
        ((*TRAIN, "-o", "latin.txt", "--force", "-r", "datastore(path=latin.txt)"),
         "would be lost"),
        ((*TRAIN, "-o", "n", "--work", "texts", "-r", "datastore(path=texts)"), "read by the same"),
        ((*TRAIN, "-o", "n", "--work", "hollow/x/y"), "make it first"),
        ((*TRAIN, "-o", "n", "--study", "doc.txt"), "this is a file"),
        ((*TRAIN, "-o", "n", "--work", "texts"), "something else than a cartridge's run"),
        (with_("--tokens", "1"), "frozen=1"),
        (with_("--min-chunk", "30"), "must not be larger"),
        (("cartridge", "train", "-m", "talker", "-o", "n"), "there is no corpus"),
        (("cartridge", "train", "empty.txt", "-m", "talker", "-o", "n"), "empty"),
        ((*put, "s.session"), "is no cartridge"),
        ((*put, "doc.txt"), "is no session"),
        ((*put, "nope"), "there is no such file"),
    ):  # fmt: skip
        status, out, err = called(*words)
        lines = [line for line in err.splitlines() if line and "trained to" not in line]
        assert (status, out, len(lines)) == (2, "", 1), (words, err)
        assert told in lines[0], lines
    assert not (world / "n").exists()
