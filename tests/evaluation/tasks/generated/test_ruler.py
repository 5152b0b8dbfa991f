"""RULER: counts of words, needles where they are said to be, chains, published questions."""

from __future__ import annotations

import math
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from lengthwise.errors import DocumentError, LengthwiseError
from lengthwise.evaluation.tasks.benchmark import tasks_of
from lengthwise.evaluation.tasks.generated._shared import words as shared_words
from lengthwise.evaluation.tasks.generated._shared.hay import FILLER
from lengthwise.evaluation.tasks.generated.ruler.words import zeta, zipf
from tests.evaluation.tasks.generated.generated_cases import DATA, haystack, one, wanted

WITH_DATA = f'ruler(data="{DATA}")'


def test_counts_of_a_hundred_words_are_the_published_ones() -> None:
    assert zipf(100, 50, 2.0) == [60, 15, 6, 3, 2, 1, 1]
    assert zipf(100, 6, 2.0) == [60, 15, 6, 3, 2, 1]


def test_zeta_is_that_of_the_textbook() -> None:
    assert zeta(2.0) == pytest.approx(math.pi**2 / 6, abs=1e-9)
    assert zeta(4.0) == pytest.approx(math.pi**4 / 90, abs=1e-9)
    assert zeta(1.5) == pytest.approx(2.612375348685488, abs=1e-9)


@pytest.mark.parametrize("length", [350, 700, 3000])
def test_three_coded_words_are_the_most_frequent_behind_the_dots(length: int) -> None:
    _, sample = one("ruler/fwe", length)
    counts = Counter(sample.context.split("\n")[1].split())
    (dots, most), *ranked = counts.most_common()
    assert dots == "..." and most > ranked[0][1]
    assert {word for word, _ in ranked[:3]} == set(sample.references)
    assert ranked[2][1] > ranked[3][1]
    assert all(re.fullmatch("[a-z]{6}", word) for word, _ in ranked)


@pytest.mark.parametrize(("length", "often", "seldom"), [(1000, 6, 1), (4096, 30, 3)])
def test_ten_words_are_common_and_an_example_of_others_stands_before(
    length: int, often: int, seldom: int
) -> None:
    _, sample = one("ruler/cwe", length)
    example, listed = re.findall(r"(?<=others\.\n)1\. [^\n]*", sample.context)
    counts = Counter(re.findall(r"[a-z]+", listed))
    assert {word for word, n in counts.items() if n == often} == set(sample.references)
    assert set(counts.values()) == {often, seldom} and len(sample.references) == 10
    assert not set(counts) & set(re.findall(r"[a-z]+", example))
    numbers = [int(n) for n in re.findall(r"\d+", listed)]
    assert numbers == list(range(1, len(numbers) + 1))


@pytest.mark.parametrize(
    ("task", "needles", "references"),
    [
        ("niah_single_1", 1, 1), ("niah_single_2", 1, 1), ("niah_single_3", 1, 1),
        ("niah_multikey_1", 4, 1), ("niah_multivalue", 4, 4), ("niah_multiquery", 4, 4),
    ],
)  # fmt: skip
def test_as_many_needles_are_hidden_as_the_paper_hides(
    task: str, needles: int, references: int
) -> None:
    _, sample = one(f"ruler/{task}", 2000)
    assert len(re.findall(r"One of the secret \w+ of \S+ is: \S+\.", sample.context)) == needles
    assert len(set(sample.references)) == references
    rest = re.sub(r" ?One of the secret \w+ of \S+ is: \S+\.", "", sample.context)
    lines = rest.split("\n\n", 1)[1]
    if task == "niah_single_1":
        assert set(lines.replace("\n", "")) <= set(FILLER)
    else:
        # Every sentence that is left is the user's.
        assert all(each.strip() in haystack() for each in lines.split(".") if each.strip())


def test_a_haystack_of_needles_has_each_key_and_value_once() -> None:
    for task in ("niah_multikey_2", "niah_multikey_3"):
        _, sample = one(f"ruler/{task}", 3000)
        found = re.findall(r"of (\S+) is: (\S+)\.", sample.context)
        keys, values = zip(*found, strict=True)
        assert len(set(keys)) == len(set(values)) == len(found) > 30
        asked = re.search(r"of (\S+) in", sample.question)
        assert asked and dict(found)[asked[1]] == sample.references[0]


@pytest.mark.parametrize(("chains", "hops"), [(1, 4), (3, 2)])
def test_a_chain_is_followed_to_all_of_its_variables(chains: int, hops: int) -> None:
    _, sample = one(f"ruler(chains={chains}, hops={hops})/vt", 2000)
    text = sample.context.rpartition("Follow the assignments")[2]
    lines = re.findall(r"VAR ([A-Z]{5}) = (?:VAR )?(\w+)", text)
    assert len(lines) == chains * (hops + 1)
    value = re.search(r"\d{5}", sample.question)
    reached = [value[0]] if value else []
    for name, of in lines:
        if of in reached:
            reached.append(name)
    assert tuple(reached[1:]) == sample.references and len(reached) == hops + 2
    assert sample.context.count("VAR") > text.count("VAR")


def test_a_reply_with_one_of_two_numbers_scores_half() -> None:
    task, sample = one("ruler/niah_multivalue", 1000)
    half = f"They are {sample.references[0]} and {sample.references[2]}, I think."
    assert task.score(half, sample) == {"contains_all": 0.5}


def test_published_questions_are_asked_among_other_paragraphs() -> None:
    (task,) = tasks_of(f"{WITH_DATA}/qa_1")
    found = task.samples(wanted(500, 4))
    assert len({each.question for each in found}) == 4
    assert not any("painted" in each.question for each in found)
    for each in found:
        assert each.context.count("Document ") == 5 and each.own == ""
        assert task.score(f"It is {each.references[-1].upper()}!", each) == {"contains_any": 1.0}
        for reference in each.references:
            assert reference in each.context
    (task,) = tasks_of(f"{WITH_DATA}/qa_2")
    for each in task.samples(wanted(500, 3)):
        assert each.context.count("Document ") == 10


def test_short_questions_keep_their_own_paragraphs_and_depth_places_the_first() -> None:
    (task,) = tasks_of(f"{WITH_DATA}/qa_2")
    for each in task.samples(wanted(180, 3, depth=0.0)):
        titles = re.findall(r"Document \d+:\n([^\n]+)", each.context)
        second = {"Orla Venn": "Brem", "Moor": "Pell", "Ida Stroud": "Karl Stroud"}
        assert each.depth == 0.0 and second[titles[0]] in titles
    for each in task.samples(wanted(180, 3, depth=1.0)):
        assert each.depth == 1.0 or each.context.count("Document ") == 2


def test_without_files_questions_are_left_out_or_refused(tmp_path: Path) -> None:
    assert [task.name for task in tasks_of("ruler")][-1] == "fwe"
    with pytest.raises(LengthwiseError, match="ruler/qa_1 needs the published file of SQuAD"):
        tasks_of("ruler/qa_1")
    with pytest.raises(LengthwiseError, match="file of HotpotQA, which .* is not or does not hold"):
        tasks_of(f'ruler(data="{tmp_path}")/qa_2')
    one_file = f'ruler(data="{DATA / "squad.json"}")'
    assert [task.name for task in tasks_of(one_file)][-1] == "qa_1"


@pytest.mark.parametrize("text", ["[]", '{"data": 3}', "{", '{"data": []}', "[" * 100_000])
def test_a_file_of_another_form_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "squad.json").write_text(text)
    (task,) = tasks_of(f'ruler(data="{tmp_path}")/qa_1')
    with pytest.raises(DocumentError, match=r"squad\.json (is not of the form|holds no question)"):
        task.samples(wanted(500))


def test_without_words_their_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_words, "find_spec", lambda name: None)
    with pytest.raises(LengthwiseError, match=r"needs the package wonderwords: pip install"):
        tasks_of("ruler/cwe")
    assert {task.name for task in tasks_of("ruler")} == {"vt", "fwe"}


def test_more_words_than_there_are_are_made_of_two() -> None:
    from lengthwise.evaluation.tasks.generated.ruler.words import _more

    assert _more(["a", "b", "c"], 8) == ["a", "b", "c", "ab", "bc", "ca", "ac", "ba"]
    assert all(a != b for a, b in pairwise(_more(["a", "b", "c"], 9)))
