"""Laws of what may follow, equal to those of the whole text read at once, under recipes too."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import lengthwise
from lengthwise.errors import LengthwiseError, Refused
from lengthwise.evaluation.runs.evaluate import evaluate
from lengthwise.evaluation.runs.laws import forced_laws
from lengthwise.evaluation.tasks.benchmark import Forced
from lengthwise.testing.prompting import letters
from tests.remote_server import Scripted, says

CONTEXT = "a b c d\nb a d c\n"


def by_hand(pieces: list[str], alternatives: list[str], place: int) -> list[float]:
    """Chances of alternatives by the logits of the stock model, a text each."""
    model = letters()
    found = []
    for each in alternatives:
        before, ids = model.encode(CONTEXT + "".join(pieces[:place])), model.encode(each)
        with torch.no_grad():
            logits = model.adapted.model(torch.tensor([before + ids])).logits[0].double()
        logs = torch.log_softmax(logits, -1)
        places = range(len(before) - 1, len(before) + len(ids) - 1)
        found.append(float(sum(logs[at, token] for at, token in zip(places, ids, strict=True))))
    return [float(each) for each in torch.tensor(found).exp()]


@pytest.mark.parametrize(
    "among", [[" a", " b", " c", " d"], ["a", "b", " "], ["x", " a", "b", " b"]], ids=str
)
def test_laws_are_those_of_the_stock_model(among: list[str]) -> None:
    # A letter is a token: alternatives of one, of two, and of either.
    pieces, model = [" a", " b", "c"], letters()
    found = forced_laws(model, model.encode(CONTEXT), Forced(tuple(pieces), tuple(among)))
    assert [list(law) for law in found] == [among] * 3
    for place, law in enumerate(found):
        assert list(law.values()) == pytest.approx(by_hand(pieces, among, place), rel=1e-3)


def test_a_recipe_has_its_own_laws() -> None:
    model, forced = letters(), Forced((" a", " b"), (" a", " b", " c"))
    context = model.encode(CONTEXT * 8)
    full = forced_laws(model, context, forced)
    assert forced_laws(model, context, forced, "snapkv(budget=9999)") == [
        pytest.approx(law, rel=1e-3) for law in full
    ]
    assert forced_laws(model, context, forced, "streaming(window=16)") != full
    with pytest.raises(LengthwiseError, match="no token for ''"):
        forced_laws(model, context, Forced(("",), (" a",)))


def test_a_run_scores_laws_and_keeps_the_likeliest(tmp_path: Path) -> None:
    out = tmp_path / "run.jsonl"
    recipes = ["full", "bm25(budget=300, passage=60)"]
    found = evaluate(letters(), "icll(symbols=3)/law", recipes, lengths=[900], samples=2, out=out)
    assert len(found.rows) == 4
    for row in found.rows:
        assert row.score == pytest.approx(1 - row.scores["tvd"]) and 0 < row.score < 1
        assert len(row.said.split()) == 3 and row.answer_tokens == 3
        assert 0 < row.scores["mass"] < 1
    again = evaluate(letters(), "icll(symbols=3)/law", recipes, lengths=[900], samples=2, out=out)
    assert [row.scores for row in again.rows] == [row.scores for row in found.rows]


@pytest.mark.usefixtures("letters_counted")
def test_a_server_tells_no_laws_and_is_refused_before_it_is_asked() -> None:
    server = Scripted(says("a b c"))
    try:
        model = lengthwise.connect(server.url)
        with pytest.raises(Refused, match="icll/law cannot be asked.*take a task that scores"):
            evaluate(model, "icll/law", lengths=[900], samples=1)
        assert server.asked == []
        found = evaluate(model, "icll", lengths=[900], samples=1)
        assert [row.task for row in found.rows] == ["icll/writing"]
        assert any("icll/law is left out" in note for note in found.notes)
    finally:
        server.close()
