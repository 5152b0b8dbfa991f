"""A user's own prompts are read in three forms, or refused with the line."""

from __future__ import annotations

import json

import pytest

from lengthwise.documents.prompt_files import read_prompts
from lengthwise.errors import DocumentError
from tests.evaluation.drafting_cases import CHAT, TURNS, written


def test_own_prompts_are_read_in_three_forms(tmp_path) -> None:
    path = written(tmp_path / "own.jsonl", TURNS, CHAT, {"prompt": "Say it.", "kind": "writing"})
    found = read_prompts(path)
    assert [(each.kind, each.name, each.turns) for each in found] == [
        ("writing", "81", ("Write a line.", "And another one.")), ("own", "2", ("Hi",)),
        ("writing", "3", ("Say it.",)),
    ]  # fmt: skip
    assert found[1].before == ({"role": "system", "content": "Be brief."},)
    array = tmp_path / "own.json"
    array.write_text(json.dumps([TURNS, {"prompt": "Say it."}]))
    assert [each.turns for each in read_prompts(array)] == [found[0].turns, ("Say it.",)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no prompt"),
        ("not json", "line 1: no JSON object"),
        ('{"prompt": "a"}\n{"text": "b"}', "line 2: give one of"),
        ('{"turns": []}', "must hold text"),
        ('{"turns": ["a", 3]}', "must hold text"),
        ('{"prompt": " "}', "must hold text"),
        ('{"messages": [{"role": "assistant", "content": "x"}]}', "the user's last"),
        ('{"messages": [{"role": "robot", "content": "x"}]}', "the user's last"),
        ("[3]", "item 1: give one of"),
        ("[", "damaged"),
    ],
)
def test_a_file_of_prompts_says_what_is_wrong_and_where(tmp_path, text, words) -> None:
    path = tmp_path / "own.jsonl"
    path.write_text(text)
    with pytest.raises(DocumentError, match=words):
        read_prompts(path)
