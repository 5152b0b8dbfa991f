"""Scorers by name."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lengthwise.errors import LengthwiseError
from lengthwise.evaluation.scorers import _libraries
from lengthwise.evaluation.scorers.table import SCORERS, Scorer, scorer

HEAVY = ("torch", "transformers", "jieba", "nltk", "rouge", "rouge_score", "sacrebleu", "sklearn")


def test_a_scorer_is_found_and_bound() -> None:
    found = scorer("label_in_prediction", labels=("Food", "Sport"))
    assert found("Sport it is", ["Sport"]) == 1
    assert "compat" in found.options
    assert found.summary.startswith("One over the number of class names")


def test_procedures_give_their_parts() -> None:
    reply, right = "<Route>\na\nx\n</Route>", ["a\nb"]
    assert scorer("route")(reply, right) == 0
    assert scorer("route", part="partial")(reply, right) == 0.5
    assert scorer("route", part="partial", compat=True)(reply, right) == 1
    with pytest.raises(LengthwiseError, match="part 'half': route has accuracy, partial"):
        scorer("route", part="half")


def test_unknown_names_and_options_are_refused_with_the_nearest() -> None:
    with pytest.raises(LengthwiseError, match="no scorer 'squad_f2'; did you mean 'squad_f1'?"):
        scorer("squad_f2")
    with pytest.raises(LengthwiseError, match="squad_f1 has no option 'compt'; did you mean"):
        scorer("squad_f1", compt=True)
    with pytest.raises(LengthwiseError, match="squad_em has no option 'compat'$"):
        scorer("squad_em", compat=True)
    with pytest.raises(LengthwiseError, match="squad_em: no references"):
        scorer("squad_em")("Paris", [])


# What some scorers must be given; the others take any text as a reference.
GIVEN: dict[str, tuple[list[str], dict[str, object]]] = {
    "code_debug": (["parse_row", "B"], {}),
    "code_run": (["7"], {}),
    "math_find": (["7"], {}),
    "math_calc": (["7", "8"], {}),
    "best_answer": (["A3"], {"choices": 5}),
    "label_in_prediction": (["Food"], {"labels": ["Food", "Sport"]}),
    "permutation": (["[2, 1, 4, 3]"], {}),
    "requested_length": (["100"], {}),
    "word_count_match": (["50"], {}),
    "exam_verdict": (["True [fact: False]"], {}),
    "travel": (["<Solving Procedure>\nTry Oslo."], {"cities": ["Oslo"], "days": [3]}),
    "countdown": (["# Search Procedure\nNumbers 1, 2"], {"numbers": [1, 2], "target": 3}),
}
ODD = (
    "", " ", "\n\n", "\x00\x1b", "\ud800", "😀 e\u0301", "[", "{}", "null", "NaN", "-", ">", '"',
    "\t\t", "²", "7" * 6000, "[" * 3000, "A" * 3000, "( " * 200, "[fact:", "Answer: [[]]",
    "<Route></Route>", "</Plan><Plan>", "```tsv\n```", "# Search Procedure",
    "<Solution>\n1/0 = 1\n\n</Solution>",
)  # fmt: skip


@pytest.mark.parametrize("each", SCORERS.values(), ids=SCORERS)
@pytest.mark.parametrize("compat", [False, True])
def test_no_reply_is_an_error(each: Scorer, compat: bool) -> None:
    if each.corpus or (compat and "compat" not in each.options):
        return
    references, options = GIVEN.get(each.name, (["Paris 7", "B"], {}))
    chosen = {**options, "compat": True} if compat else options
    for reply in ODD:
        assert 0 <= each(reply, references, **chosen) <= 1, reply[:40]


@pytest.mark.parametrize("each", SCORERS.values(), ids=SCORERS)
def test_every_scorer_says_whose_it_is(each: Scorer) -> None:
    told = inspect.getdoc(each.function) or ""
    own = "is ours" in told
    assert own or re.search(r"arXiv:\d{4}\.\d{5}", told) or "Popovic" in told
    assert "Args:" in told and "Returns:" in told
    assert each.name == each.function.__name__


def test_importing_the_table_imports_no_heavy_package() -> None:
    code = (
        "import sys, lengthwise.evaluation.scorers.table;"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.linear_model", None)
    _libraries.library.cache_clear()
    with pytest.raises(LengthwiseError, match=r"scikit-learn: pip install 'lengthwise\[evaluation"):
        _libraries.library("sklearn.linear_model")


def test_a_test_file_stands_for_every_file() -> None:
    room = Path(inspect.getfile(_libraries)).parent
    files = {path.stem for path in room.glob("[!_]*.py")}
    tests = {path.stem.removeprefix("test_") for path in Path(__file__).parent.glob("test_*.py")}
    assert files <= tests
