"""`lengthwise soft`: an encoder is trained, reads a document, and the session is asked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bad_world import make_world
from tests.called import called

TRAIN = ("soft", "train", "extensible(layers=1,piece=8,ratios=\"2,4\")", "doc.txt", "-m", "talker",
         "--steps", "2", "--batch", "2", "--length", "32")  # fmt: skip


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    make_world(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_one_is_trained_reads_and_is_asked(world: Path) -> None:
    status, out, err = called(*TRAIN, "-o", "c.encoder", "--held-out", "2")
    assert status == 0, err
    assert "c.encoder: extensible(layers=1, ratios=" in out and "2 steps" in out
    assert "without a context" in out and "behind embeddings" in out and "behind the text" in out
    # Done already: the same command writes the same.
    before = (world / "c.encoder").read_bytes()
    assert called(*TRAIN, "-o", "c.encoder", "--held-out", "2")[:2] == (0, out)
    assert (world / "c.encoder").read_bytes() == before
    status, said, err = called("soft", "read", "doc.txt", "-m", "talker", "-e", "c.encoder",
                               "--ratio", "8", "--raw", "10", "--save", "d.session")  # fmt: skip
    assert status == 0, err
    tokens, entries = (int(said.split()[n].replace(",", "")) for n in (0, 3))
    assert entries == -(-tokens // 8)
    status, said, err = called("run", "-q", "Who?", "--session", "d.session", "-m", "talker",
                               "--max-new-tokens", "4", "--json")  # fmt: skip
    assert status == 0, err
    assert entries + 10 <= json.loads(said)["reused_tokens"] < entries + 20


def test_what_is_wrong_is_one_line(world: Path) -> None:
    read = ("soft", "read", "doc.txt", "-m", "talker", "--save", "n")
    for words, told in (
        ((*TRAIN, "-o", "doc.txt", "--force"), "would be lost"),
        ((*TRAIN, "-o", "latin.txt"), "no encoder of lengthwise"),
        ((*TRAIN, "-o", "n", "--work", "texts"), "something else than an encoder's run"),
        ((*TRAIN, "-o", "n", "--stages", "restore"), "extensible has pieces"),
        ((*TRAIN, "-o", "n", "--pairs", "doc.txt"), "doc.txt, line 1: is no object"),
        (
            (
                *read[:-1],
                "latin.txt",
                "--force",
                "-e",
                "some.encoder",
                "-r",
                "datastore(path=latin.txt)",
            ),
            "would be lost",
        ),
        ((*read, "-e", "some.cartridge"), "holds no encoder"),
        ((*read, "-e", "nope"), "there is no such file"),
        ((*read, "-e", "some.encoder", "--ratio", "2"), "number of embeddings"),
        ((*read, "-e", "some.encoder", "-r", "ape"), "this is one text"),
    ):
        status, _, err = called(*words)
        assert status == 2 and told in err, (words, err)
    assert not (world / "n").exists()
