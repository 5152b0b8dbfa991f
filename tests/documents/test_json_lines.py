"""Lines of JSON end where JSON's lines do: what else ends a line may stand in a text."""

from __future__ import annotations

from pathlib import Path

from lengthwise.documents.json_lines import json_lines
from lengthwise.documents.prompt_files import read_prompts

ODD = "one\u2028two\x85three\u2029four\x0bfive"


def test_a_text_may_hold_every_separator_but_the_line_end(tmp_path: Path) -> None:
    place = tmp_path / "odd.jsonl"
    text = ODD.replace("\x0b", "\\u000b")
    place.write_text(f'{{"prompt": "{text}"}}\r\n\n{{"prompt": "next"}}\n', encoding="utf-8")
    assert json_lines(place) == [(1, {"prompt": ODD}), (3, {"prompt": "next"})]
    assert [each.turns for each in read_prompts(place)] == [(ODD,), ("next",)]
