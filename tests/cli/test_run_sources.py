"""`run` with a recipe that chooses what is read, and --sources."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lengthwise.api.generation import Source
from lengthwise.cli.sources import shown
from tests.bad_world import make_world
from tests.called import called

TEXT = "\n\n".join(f"The keeper of tower {n} is called {n * n}." for n in range(40))
RUN = ("run", "Who keeps tower 23?", "-m", "model", "-d", "towers.txt", "--max-new-tokens", "2")
BM25 = ("-r", "bm25(budget=60, passage=60)")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("world")
    make_world(found)
    (found / "towers.txt").write_text(TEXT, encoding="utf-8")
    return found


@pytest.fixture(autouse=True)
def world(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(place)
    return place


def test_sources_are_printed_with_their_places() -> None:
    code, out, err = called(*RUN, *BM25, "--sources")
    assert code == 0, err
    at = TEXT.index("The keeper of tower 23")
    places = [line for line in out.splitlines() if line.startswith("[")]
    first, last = (int(x.replace(",", "")) for x in places[0].strip("[]").split(" to "))
    assert first <= at < last and "tower 23 is called 529" in out


def test_json_has_sources_and_what_was_read() -> None:
    _, out, _ = called(*RUN, *BM25, "--json")
    found = json.loads(out)
    assert found["recipe"] == "bm25(budget=60, passage=60)"
    assert found["tokens_read"] == found["prompt_tokens"]
    assert all(TEXT[s["start"] : s["stop"]] == s["text"] for s in found["sources"])


def test_runs_near_one_another_are_one_block() -> None:
    hack = ("-r", "simple_hack(budget=80%)")
    code, out, err = called(*RUN, *hack, "--sources")
    assert code == 0, err
    (place,) = [line for line in out.splitlines() if line.startswith("[")]
    _, out_json, _ = called(*RUN, *hack, "--json")
    runs = json.loads(out_json)["sources"]
    assert len(runs) > 30
    assert place == f"[{runs[0]['start']:,} to {runs[-1]['stop']:,}, {len(runs)} runs]"
    assert "keeper … tower 3 … called 9." in out


def test_what_a_model_wrote_is_named_so() -> None:
    recipe = ("-r", "map_reduce(budget=60, chunk=200, note=16)", "--sources")
    code, out, err = called(*RUN, *recipe)
    assert code == 0, err
    assert "\n[written by the model]\n" in out and "tokens read" in err


def test_blocks_are_of_one_document_in_its_order_and_nothing_else() -> None:
    sources = [Source("a", "one ", 0, 4), Source("a", "two", 9, 12), Source("a", "three", 12, 17),
               Source("a", "far", 98, 101), Source("", "said"), Source("", "more"),
               Source("b", "four", 101, 105), Source("b", "back", 2, 6)]  # fmt: skip
    assert list(shown(sources)) == [
        "[a, 0 to 17, 3 runs]\none … twothree", "[a, 98 to 101]\nfar",
        "[written by the model]\nsaid", "[written by the model]\nmore",
        "[b, 101 to 105]\nfour", "[b, 2 to 6]\nback",
    ]  # fmt: skip
    lines = [Source("a", "one\n", 0, 4), Source("a", "two ", 8, 12), Source("a", "\nthree", 14, 20)]
    assert list(shown(lines)) == ["[0 to 20, 3 runs]\none\n… two\n… three"]
    assert list(shown(sources[:1])) == ["[0 to 4]\none"] and list(shown([])) == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("run", "hi", "-m", "model", *BM25), "none is given: name one by -d FILE"),
        ((*RUN, "--sources"), "--sources are of a recipe that chooses what is read"),
        ((*RUN, *BM25, "-n", "9"), "leave out --length and --raw"),
        ((*RUN, *BM25, "--raw"), "leave out --length and --raw"),
        ((*RUN, "-r", "bm25(budget=9KB)"), "allowed is tokens (2048) or a share"),
    ],
)
def test_what_cannot_be_is_one_line(arguments: tuple[str, ...], says: str) -> None:
    code, _, err = called(*arguments)
    assert code == 2 and says in err and "Traceback" not in err
