"""LongICLBench of rows in its format: rounds that fit, labels, relations."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from lengthwise.errors import LengthwiseError
from lengthwise.evaluation.tasks.benchmark import tasks_of
from lengthwise.evaluation.tasks.published.longicl import LongICL
from tests.evaluation.tasks.published.published_cases import task_of, wanted, write

SPLITS = {
    "goemotion": "GoEmotion", "banking77": "BANKING77", "tacred": "TacRED",
    "discovery": "Discovery", "dialogre": "DialogRE", "fewnerd": "FewNERD",
}  # fmt: skip
ENTITIES = {"Ada Holm": "person-other", "Fjord: a Story": "art-film"}
SENTENCE = "Ada Holm wrote Fjord: a Story."
LABELS = ["lost key", "late train"]


def write_rows(folder: Path, task: str, labels: list[str]) -> None:
    demo = "".join(f"query: my {label}\nkind: {label}\n" for label in labels)
    rows = [
        {
            **{f"{n} Round Prompt": f"Name its kind.\n{demo * n}query: oh my {label}\nkind: "
               for n in range(1, 6)},
            "label": label,
        }
        for label in labels
    ]  # fmt: skip
    table = pyarrow.Table.from_pylist(rows)
    pyarrow.parquet.write_table(table, folder / f"{SPLITS[task]}-00000-of-00001.parquet")


@pytest.mark.parametrize("task", [each for each in LongICL.tasks if each != "fewnerd"])
def test_a_right_reply_scores_one_and_a_wrong_one_does_not(task: str, tmp_path: Path) -> None:
    write_rows(tmp_path, task, LABELS)
    found = task_of("longicl", tmp_path, task)
    for sample, label in zip(found.samples(wanted()), LABELS, strict=True):
        assert next(iter(found.score(f" {label.upper()}\nquery", sample).values())) == (
            0.0 if task == "dialogre" else 1.0
        )
        assert next(iter(found.score(f"{label}\nquery: more", sample).values())) == 1.0
        assert next(iter(found.score("zebra", sample).values())) == 0.0


def test_a_prompt_to_the_letter(tmp_path: Path) -> None:
    write_rows(tmp_path, "banking77", LABELS)
    (task,) = tasks_of(f"longicl(data={tmp_path}, rounds=1)/banking77")
    sample, _ = task.samples(wanted())
    assert sample.context == (
        "Name its kind.\nquery: my lost key\nkind: lost key\nquery: my late train\nkind: late train"
    )
    assert sample.question == "query: oh my lost key\nkind:" and not sample.chat
    assert sample.most == 100 and sample.references == ("lost key",)


def test_the_most_rounds_that_fit_are_taken(tmp_path: Path) -> None:
    write_rows(tmp_path, "tacred", LABELS)
    task = task_of("longicl", tmp_path, "tacred")
    for length, rounds in ((10_000, 5), (440, 3), (300, 1)):
        samples = task.samples(wanted(length))
        assert [each.facts["rounds"] for each in samples] == [rounds, rounds]
        # Whatever the rounds are, they are the same questions.
        assert [each.own for each in samples] == ["", ""]
    with pytest.raises(LengthwiseError, match="no samples of 200 tokens: 1 round of"):
        task.samples(wanted(200))


def test_relations_are_matched_by_place(tmp_path: Path) -> None:
    write_rows(tmp_path, "dialogre", ["friend of, boss of", "lives in"])
    task = task_of("longicl", tmp_path, "dialogre")
    sample, _ = task.samples(wanted())
    assert task.score("friend of, lives in", sample) == {
        "relation_f1": 0.5, "right": 1.0, "said": 2.0, "wanted": 2.0,
    }  # fmt: skip
    assert task.score("boss of, friend of", sample)["relation_f1"] == 0.0
    # A published relation that no label has counts as said.
    assert task.score("per:pet", sample)["said"] == 1.0


def write_entities(folder: Path, label: str) -> None:
    demo = "Sentence: Bo sang.\nBo: person-other\n"
    prompts = {
        f"{n} Round Prompt": f"Name them.\n{demo * n}Sentence: {SENTENCE}\n" for n in range(1, 6)
    }
    write(folder, "FewNERD.jsonl", [{**prompts, "label": label}])


@pytest.mark.parametrize(
    "label",
    [
        json.dumps(ENTITIES),
        str(ENTITIES),
        "\n".join(map(": ".join, ENTITIES.items())),
        ", ".join(map(": ".join, ENTITIES.items())),
    ],
)
def test_entities_and_their_types(label: str, tmp_path: Path) -> None:
    write_entities(tmp_path, label)
    for compat, right in (("true", 1.0), ("false", 2.0)):
        (task,) = tasks_of(f"longicl(data={tmp_path}, rounds=2, compat={compat})/fewnerd")
        (sample,) = task.samples(wanted())
        assert sample.facts["entities"] == ENTITIES
        assert sample.context == "Name them." + "\nSentence: Bo sang.\nBo: person-other" * 2
        assert sample.question == f"Sentence: {SENTENCE}" and sample.references == (label,)
        said = "Ada Holm: person-other\nFjord: a Story: art-film\n\nSentence: Next one."
        found = task.score(said, sample)
        assert (found["right"], found["said"], found["wanted"]) == (right, 2.0, 2.0)
        assert found["entity_f1"] == 2 * right / 4
        again = task.score(f"Sentence: {SENTENCE}\nAda Holm: person-other", sample)
        assert again["right"] == again["said"] == 1.0
        assert task.score("There are none.", sample)["entity_f1"] == 0.0


def test_a_label_without_entities_is_refused(tmp_path: Path) -> None:
    write_entities(tmp_path, "zebra")
    with pytest.raises(
        LengthwiseError, match=r"row 1 .*'label' holds 'zebra'; wanted are entities"
    ):
        task_of("longicl", tmp_path, "fewnerd").samples(wanted())
