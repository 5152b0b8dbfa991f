"""Answers from what was retrieved: prompts are those that a recipe writes when it is asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import lengthwise
from lengthwise.api.answer import write_prompt
from lengthwise.cli.sequences import sequences
from lengthwise.documents.document import Document
from lengthwise.documents.folders import read
from lengthwise.errors import LengthwiseError
from lengthwise.recipes import parse
from lengthwise.sequences.answers.base import Example, make_answers
from lengthwise.sequences.answers.build import AnswerBuild, build_answers, open_writer
from lengthwise.sequences.answers.pairs import read_pairs
from lengthwise.sequences.store import SequenceSet
from lengthwise.testing.tiny import tiny_model
from tests.chat_models import tokenizer

NAMES = ("Ann", "Bob", "Cal", "Dan", "Eve", "Fay", "Gus", "Hal")
FACTS = [f"The pet of {name} is pet{number}. " for number, name in enumerate(NAMES)]
OTHERS = [f"Ship {n} left port {n}. " for n in range(12)]
DOCUMENT = "".join(each for pair in zip(FACTS, OTHERS, strict=False) for each in pair)
QUESTION = "What is the pet of Cal?"
PAIR = {"question": QUESTION, "document": DOCUMENT, "answer": "pet2",
        "reason": "The passage on Cal says it."}  # fmt: skip
RECIPES = (
    "reorder(budget=120,passage=24)", "reorder(k=3,passage=24,order=rank)",
    "bm25(k=4,passage=24)", "bm25(budget=30%)", "jrt", "simple_hack(budget=50)",
)  # fmt: skip


@pytest.fixture(scope="module", params=["template", "plain"])
def checkpoint(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp(request.param) / "model"
    made = tokenizer() if request.param == "template" else tokenizer(None)
    tiny_model("llama", vocab_size=len(made), max_position_embeddings=1024).save_pretrained(place)
    made.save_pretrained(place)
    return place


def rows(folder: Path, checkpoint: Path | str, document: str = "", **options: str) -> list[str]:
    """Texts of the rows that are built, what is predicted in brackets."""
    task = AnswerBuild([PAIR], open_writer(str(checkpoint)), make_answers("retrieved", options),
                       folder, document=document)  # fmt: skip
    build_answers(task)
    found, made = SequenceSet(folder), open_writer(str(checkpoint)).tokenizer
    texts = []
    for number in range(found.buckets[0]):
        row = found.row(number)
        assert row.loss_mask is not None
        first = int(row.loss_mask.argmax())
        assert row.loss_mask[first : sum(row.lengths)].all() and not row.loss_mask[:first].any()
        said = made.decode(row.input_ids[first : sum(row.lengths) - 1])
        texts.append(f"{made.decode(row.input_ids[:first])}[{said}]")
    return texts


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_prompt_is_the_one_that_the_recipe_is_asked_with(checkpoint: Path, recipe: str) -> None:
    example = make_answers("retrieved", {"recipe": recipe}).examples([PAIR], 0)[0][0]
    assert isinstance(example, Example) and example.chooser is not None
    found = open_writer(str(checkpoint)).prompt_about(DOCUMENT, QUESTION, example.chooser)
    with lengthwise.load(str(checkpoint), dtype="fp32") as model:
        asked = write_prompt(model, parse(recipe).prompting, [Document.from_text(DOCUMENT)],
                             QUESTION)  # fmt: skip
    assert found == [*asked.ids.prefix, *asked.ids.suffixes[0]]


def test_loss_is_taken_of_the_answer_alone_or_of_the_reason_and_the_answer(tmp_path: Path) -> None:
    options = {"recipe": "reorder(k=1, passage=24)"}
    prompt = f"{FACTS[2]}\n\n{QUESTION}\nAnswer:"
    assert rows(tmp_path / "implicit", "bytes", **options) == [f"{prompt}[pet2]"]
    assert rows(tmp_path / "reasons", "bytes", reasons="true", **options) == [
        f"{prompt}[{PAIR['reason']}\npet2]"
    ]


def test_hard_negatives_are_alike_and_random_ones_are_drawn(tmp_path: Path) -> None:
    recipe = "reorder(k=5, passage=24, order=rank)"
    (hard,) = rows(tmp_path / "hard", "bytes", recipe=recipe)
    assert hard.startswith(FACTS[2]) and hard.count("The pet of") == 5
    (drawn,) = rows(tmp_path / "drawn", "bytes", recipe=recipe, negatives="random")
    assert drawn.startswith(FACTS[2]) and drawn.count(". ") == 5
    seen = set()
    for seed in range(8):
        method = make_answers("retrieved", {"recipe": recipe, "negatives": "random"})
        twice = [method.examples([PAIR], seed)[0][0] for _ in range(2)]
        assert isinstance(twice[0], Example) and twice[0] == twice[1]
        assert twice[0].chooser is not None
        seen.add(tuple(open_writer("bytes").prompt_about(DOCUMENT, QUESTION, twice[0].chooser)))
    assert len(seen) == 8
    assert any("Ship" in bytes(each).decode() for each in seen)


def test_a_passage_that_says_the_answer_is_read_before_better_ones(tmp_path: Path) -> None:
    given = {**PAIR, "document": "The pet of Cal is lost. " + DOCUMENT, "answer": "port 3"}
    method = make_answers(
        "retrieved", {"recipe": "reorder(k=2, passage=24, order=rank)", "negatives": "random"}
    )
    example = method.examples([given], 0)[0][0]
    assert isinstance(example, Example) and example.chooser is not None
    found = bytes(open_writer("bytes").prompt_about(given["document"], QUESTION, example.chooser))
    assert found.startswith(OTHERS[3].encode())


def test_one_document_is_read_for_pairs_that_have_none(tmp_path: Path) -> None:
    bare = {"question": QUESTION, "answer": "pet2"}
    method = make_answers("retrieved", {"recipe": "reorder(k=1, passage=24)"})
    task = AnswerBuild([bare, PAIR | {"document": FACTS[0]}], open_writer("bytes"), method,
                       tmp_path / "rows", document=DOCUMENT)  # fmt: skip
    build_answers(task)
    assert SequenceSet(tmp_path / "rows").manifest["documents"] == 2
    other = AnswerBuild(task.pairs, task.writer, method, task.folder, document=DOCUMENT + "No.")
    with pytest.raises(LengthwiseError, match="holds something else than these answers"):
        build_answers(other)
    with pytest.raises(LengthwiseError, match="reads a document, and neither this pair nor"):
        build_answers(AnswerBuild([bare], task.writer, method, tmp_path / "none"))
    assert [each.name for each in tmp_path.iterdir()] == ["rows"]


def test_general_pairs_are_written_as_they_are() -> None:
    method = make_answers("retrieved", {"mixed": "true"})
    bare = {"question": "Why?", "answer": "So."}
    assert method.examples([bare], 0) == [[Example("Why?", "So.")]]
    mixed = method.examples([bare, PAIR], 0)[1][0]
    assert isinstance(mixed, Example) and mixed.chooser == parse("reorder(budget=1536)").prompting


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"recipe": "full"}, "recipe=full: here it says what is read of a document, and no more"),
        ({"recipe": "bm25 + kivi"}, "no more; give one method of prompting"),
        ({"recipe": "ruler(words=50)"}, "give one method of prompting"),
        ({"recipe": "bm26"}, "bm25"),
        ({"negatives": "random", "recipe": "jrt"}, "negatives=random: jrt does not rank passages"),
        ({"negatives": "none"}, "retrieved, random"),
        ({"k": "3"}, "retrieved has no option 'k'"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(options: dict[str, str], message: str) -> None:
    with pytest.raises(LengthwiseError, match=message):
        make_answers("retrieved", options)


@pytest.mark.parametrize(
    ("recipe", "message"),
    [("xl3m(budget=30)", "the tokenizer does not offer that"),
     ("map_reduce(budget=30, chunk=600)", "has a model write on the way"),
     ("dense(budget=30)", "no encoder is given"), ("bm25(budget=1KB)", "allowed is tokens")],
)  # fmt: skip
def test_a_recipe_that_needs_more_than_a_tokenizer_is_refused(
    tmp_path: Path, recipe: str, message: str
) -> None:
    with pytest.raises(LengthwiseError, match=message):
        rows(tmp_path / "rows", "bytes", recipe=recipe)
    assert not list(tmp_path.iterdir())


def test_a_pair_may_lack_what_is_optional(tmp_path: Path) -> None:
    place = tmp_path / "pairs.jsonl"
    place.write_text('{"q": "a", "document": ""}\n{"q": "b", "document": "c"}\n{"q": "d"}\n')
    fields = ("question", "document")
    found = read_pairs(place, fields, {"question": "q"}, ("document",))
    assert found == [{"question": "a"}, {"question": "b", "document": "c"}, {"question": "d"}]
    with pytest.raises(LengthwiseError, match="line 1: 'document' is no text"):
        read_pairs(place, fields, {"question": "q"})
    place.write_text('{"q": "a", "document": 3}\n')
    with pytest.raises(LengthwiseError, match="line 1: 'document' is no text"):
        read_pairs(place, fields, {"question": "q"}, ("document",))


def test_the_command_reads_files_once_for_all_pairs(tmp_path: Path) -> None:
    for number, text in enumerate((DOCUMENT, "Nothing here.")):
        (tmp_path / f"{number}.txt").write_text(text)
    (tmp_path / "pairs.jsonl").write_text(json.dumps({"question": QUESTION, "answer": "pet2"}))
    base = ["answers", str(tmp_path / "pairs.jsonl"), "--out", str(tmp_path / "rows"), "-t",
            "bytes", "--method"]  # fmt: skip
    files = ["-d", str(tmp_path / "0.txt"), "-d", str(tmp_path / "1.txt")]
    recipe = "reorder(budget=99)"
    done = CliRunner().invoke(sequences, [*base, "retrieved", *files, "--set", f"recipe={recipe}"])
    assert done.exit_code == 0, done.output
    row = SequenceSet(tmp_path / "rows").row(0)
    method, read_text = parse(recipe).prompting, read([tmp_path / "0.txt", tmp_path / "1.txt"]).text
    assert method is not None
    asked = open_writer("bytes").prompt_about(read_text, QUESTION, method)
    assert row.input_ids[: len(asked)].tolist() == asked
    for given, message in (
        (["retrieved"], "has no field 'document'"),
        (["plain", *files], "plain reads no documents"),
        (["retrieved", *files, "--set", "mixed=true"], "leave one of the two out"),
        (["retrieved", *files, "--set", "reasons=true"], "has no field 'reason'"),
        (["retrieved", "-d", str(tmp_path / "nope.txt")], "nope.txt"),
    ):  # fmt: skip
        refused = CliRunner().invoke(sequences, [*base, *given])
        assert refused.exit_code and message in str(refused.output) + str(refused.exception)
