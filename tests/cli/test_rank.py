"""`lengthwise rank` at the terminal."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bad_world import make_world
from tests.called import called


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("world")
    make_world(place)
    return place


def test_candidates_are_ranked_best_first(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(world)
    (world / "more.txt").write_text("the hall\n\nthe yard\n", encoding="utf-8")
    words = ("rank", "gate 5", "home", "-p", "Ada keeps bees at", "-m", "talker")
    status, out, err = called(*words, "--candidates", "more.txt", "--json")
    assert status == 0, err
    found = json.loads(out)["candidates"]
    assert sorted(each["index"] for each in found) == [0, 1, 2, 3]
    assert {each["text"] for each in found} == {"gate 5", "home", "the hall", "the yard"}
    scores = [each["score"] for each in found]
    assert scores == sorted(scores, reverse=True)
    assert all(each["score"] == pytest.approx(sum(each["logprobs"])) for each in found)
    status, out, _ = called(*words, "--against", "Where?", "--normalise", "mean", "--raw")
    assert status == 0 and len(out.splitlines()) == 2
