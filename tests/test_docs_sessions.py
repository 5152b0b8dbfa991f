"""The examples of the page on sessions run, one after the other, as a reader would run them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import lengthwise
from lengthwise.api.prefixes import prefix_cache_of
from lengthwise.api.session import Session
from lengthwise.recipes import parse
from tests.chat_models import chat_model

PAGE = (Path(__file__).parents[1] / "docs" / "sessions.md").read_text(encoding="utf-8")


def loaded(cache_bytes: str | int = 0) -> lengthwise.Model:
    model = chat_model()
    model.prefix_cache = prefix_cache_of(model.adapted, cache_bytes)
    return model


def test_the_examples_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "contract.txt").write_text("Ada signed it in May, and Bob did not. " * 16)
    monkeypatch.setattr(lengthwise, "load", loaded, raising=False)
    names: dict[str, Any] = {}
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    assert len(blocks) >= 4
    for block in blocks:
        exec(compile(block, "sessions.md", "exec"), names)
    assert names["again"].tokens == names["session"].tokens
    assert names["session"].nbytes < 0.5 * names["before"]
    assert "2 turns" in capsys.readouterr().out


def test_recipes_and_calls_of_the_page_exist() -> None:
    for recipe in re.findall(r'(?:recipe=|-r |chat\()"(.*?)"', PAGE):
        parse(recipe)
    for name in re.findall(r"`session\.(\w+)", PAGE):
        assert hasattr(Session, name), name
