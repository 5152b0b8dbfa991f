"""`read` stores what was read, `run --session` asks about it and says what `run -d` says."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.bad_world import make_world
from tests.called import called

ASKED = ("-m", "talker", "--max-new-tokens", "6", "--json")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("world")
    make_world(found)
    return found


@pytest.fixture
def world(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(place)
    return place


def read(*words: str) -> str:
    status, out, err = called("read", "doc.txt", "-m", "talker", "--save", "s.session", *words)
    assert status == 0, err
    return out


@pytest.mark.parametrize("recipe", ["full", "kivi(group=8, residual=16) + lookup"])
def test_asking_a_session_is_asking_the_document(world: Path, recipe: str) -> None:
    out = read("-r", recipe)
    assert "tokens under" in out and "MB in s.session" in out
    status, whole, err = called("run", "Who?", "-d", "doc.txt", "-r", recipe, *ASKED)
    assert status == 0, err
    for words in (("-q", "Who?"), ("Who?",), ("-q", "Who?", "-r", recipe)):
        status, found, err = called("run", *words, "--session", "s.session", *ASKED)
        assert status == 0, err
        mine, theirs = json.loads(found), json.loads(whole)
        for name in ("recipe", "text", "token_ids", "prompt_tokens"):
            assert mine[name] == theirs[name]
        assert theirs["reused_tokens"] == 0 < mine["reused_tokens"]


def test_the_answer_streams_and_says_what_was_read_before(world: Path) -> None:
    read("--force")
    status, out, err = called("run", "-q", "Who?", "--session", "s.session", *ASKED[:-1])
    assert status == 0, err
    assert "of them before)" in err and out.strip()


def test_a_compressed_session_is_smaller(world: Path) -> None:
    read("-r", "int8")
    whole = (world / "s.session").stat().st_size
    read("-r", "int8", "--compress")
    assert (world / "s.session").stat().st_size < 0.8 * whole


def test_a_coded_session_is_smaller_and_answers_say_what_it_came_through(world: Path) -> None:
    read("--force")
    whole = (world / "s.session").stat().st_size
    assert "MB in s.session" in read("--codec", "cachegen(level=1)")
    assert (world / "s.session").stat().st_size < 0.6 * whole
    status, found, err = called("run", "-q", "Who?", "--session", "s.session", *ASKED)
    assert status == 0, err
    assert any("cachegen level 1" in note for note in json.loads(found)["notes"])


def test_what_is_wrong_is_one_line(world: Path) -> None:
    read()
    before = (world / "s.session").read_bytes()
    asked = ("run", "-q", "b", "-m", "talker", "--session")
    for words, told in (
        (("run", "a", "-q", "b", "-m", "talker"), "given twice"),
        ((*asked, "s.session", "-d", "doc.txt"), "leave out"),
        ((*asked, "s.session", "--raw"), "leave out"),
        ((*asked, "s.session", "-r", "kivi"), "under 'full'"),
        ((*asked, "s.session", "--dtype", "fp16"),
         "load the model in that dtype"),
        ((*asked, "doc.txt"), "is no session"),
        ((*asked, "model/model.safetensors"), "no session"),
        (("read", "-m", "talker", "--save", "n"), "there is no document"),
        (("read", "doc.txt", "-m", "talker", "--save", "latin.txt"), "no session of lengthwise"),
        (("read", "doc.txt", "-m", "talker", "--save", "doc.txt", "--force"), "would be lost"),
        (("read", "doc.txt", "-m", "talker", "--save", "zeros.bin", "--force",
          "-r", "datastore(path=zeros.bin)"), "would be lost"),
        (("read", "doc.txt", "-m", "talker", "--save", "n", "-r", "sirllm(budget=25%)"),
         "give a budget in tokens"),
    ):  # fmt: skip
        status, out, err = called(*words)
        lines = [line for line in err.splitlines() if line and "trained to" not in line]
        assert (status, out, len(lines)) == (2, "", 1), (words, err)
        assert told in lines[0]
    assert (world / "s.session").read_bytes() == before
    assert not (world / "n").exists()


def test_documents_are_read_apart_where_the_recipe_joins_them(world: Path) -> None:
    for name, text in (("a.txt", "Ada signed on Monday."), ("b.txt", "Bob did not sign.")):
        (world / name).write_text(text)
    # They need something to stand behind, and the template of this model has nothing there.
    shutil.copytree(world / "talker", world / "teller")
    config = world / "teller" / "generation_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "bos_token_id": 3}))
    recipe, said = ("-r", "ape + lookup", "-m", "teller"), []
    for order in (("a.txt", "b.txt"), ("b.txt", "a.txt")):
        given = [word for name in order for word in ("-d", name)]
        status, out, err = called("run", "Who?", *given, *recipe, *ASKED[2:])
        assert status == 0, err
        found = json.loads(out)
        assert found["recipe"] == "ape + lookup" and found["reused_tokens"] == 0
        said.append(found["token_ids"])
        status, out, err = called("read", *order, *recipe, "--save", "both.session",
                                  "--force")  # fmt: skip
        assert status == 0 and "tokens under ape + lookup" in out, err
        status, out, err = called(
            "run", "Who?", "--session", "both.session", "-m", "teller", *ASKED[2:]
        )
        assert status == 0 and json.loads(out)["reused_tokens"] > 0, err
        said.append(json.loads(out)["token_ids"])
    assert all(each == said[0] for each in said)
    (world / "notes").mkdir()
    for name in ("a.txt", "b.txt"):
        (world / name).rename(world / "notes" / name)
    status, out, err = called("run", "Who?", "-d", "notes", *recipe, *ASKED[2:])
    assert status == 0 and json.loads(out)["token_ids"] == said[0], err


def test_what_is_wrong_with_documents_read_apart_is_one_line(world: Path) -> None:
    run = ("run", "Who?", "-m", "talker", "-r", "ape")
    for words, told in (
        ((*run, "-d", "doc.txt"), "need a prefix, and this model has no token"),
        (run, "is for documents that are set apart, and none is given"),
        ((*run, "-d", "doc.txt", "-d", "doc.txt"), "is given twice"),
        ((*run, "-d", "doc.txt", "--raw"), "leave out --length and --raw"),
        ((*run, "-d", "doc.txt", "--length", "3"), "leave out --length and --raw"),
        (("read", "-m", "talker", "-r", "ape", "--save", "x"), "none is given"),
    ):
        status, _, err = called(*words)
        assert status != 0 and told in err and "Traceback" not in err
        assert len(err.strip().splitlines()) <= 2
