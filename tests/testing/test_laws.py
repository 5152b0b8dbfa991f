"""Laws 1 to 6 for every registered method on tiny models of several families."""

from __future__ import annotations

from pathlib import Path

import pytest

from lengthwise.errors import Refused
from lengthwise.methods.registry import methods, registered
from lengthwise.recipes import resolve
from lengthwise.testing import FAMILIES, LAWS, law_model
from lengthwise.testing.laws import Law


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    path: Path = tmp_path_factory.getbasetemp() / "cache"
    monkeypatch.setenv("LENGTHWISE_CACHE", str(path))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", methods())
@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__.removeprefix("check_"))
def test_law(name: str, law: Law, family: str) -> None:
    cls, model = methods()[name], law_model(family)
    try:
        resolve((cls.example(),), model)
    except Refused as refusal:
        assert refusal.remedy
        return
    law(cls, model)


def test_everything_registered_can_be_used() -> None:
    assert {item.name: item.error for item in registered() if item.error} == {}


def test_every_method_has_an_identity() -> None:
    assert [name for name, cls in methods().items() if cls.identity(64) is None] == []
