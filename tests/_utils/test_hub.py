"""The hub is asked once and briefly, and not at all for what was fetched before."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import transformers
from huggingface_hub import HfApi, constants
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

from lengthwise._utils.hub import absent
from lengthwise.errors import ModelError, TokenizerError
from lengthwise.models.load import load_pretrained
from lengthwise.tokenization.opening import open_tokenizer
from lengthwise.tokenization.transplant.fast import fast_tokenizer

RESPONSE: Any = SimpleNamespace(headers={}, request=None)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Any]:
    """What the hub was asked for; the first thing in it is what it answers with."""
    found: list[Any] = []

    def repo_info(_: HfApi, name: str, repo_type: str, timeout: float) -> None:
        found.append((name, repo_type))
        assert timeout <= 10
        if found[0] is not None:
            raise found[0]

    monkeypatch.setattr(HfApi, "repo_info", repo_info)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    return found


@pytest.mark.parametrize(
    ("answer", "said"),
    [(None, ""), (GatedRepoError("log in", response=RESPONSE), ""),
     (RepositoryNotFoundError("no", response=RESPONSE), "the hub has no dataset 'a/b'"),
     (ConnectionError("nobody answers"), "cannot be asked for a dataset .*nobody answers")],
    ids=["there", "gated", "not there", "nobody"],
)  # fmt: skip
def test_what_the_hub_says(asked: list[Any], answer: Exception | None, said: str) -> None:
    asked.append(answer)
    found = absent("a/b", "dataset")
    assert asked[1:] == [("a/b", "dataset")]
    assert bool(found) == bool(said) and re.search(said, found)


def test_what_was_fetched_before_is_not_asked_for(asked: list[Any], tmp_path: Path) -> None:
    asked.append(ConnectionError("nobody answers"))
    folder = tmp_path / "models--a--b" / "snapshots"
    folder.mkdir(parents=True)
    assert "nobody answers" in absent("a/b")
    (folder / "1").mkdir()
    assert absent("a/b") == "" and "nobody answers" in absent("a/b", fetched=False)
    assert "nobody answers" in absent("a/b", "dataset")


@pytest.mark.parametrize("opened", [load_pretrained, fast_tokenizer, open_tokenizer])
def test_a_mistyped_name_is_asked_for_once(
    asked: list[Any], monkeypatch: pytest.MonkeyPatch, opened: Any
) -> None:
    def never(name: str, local_files_only: bool = False, **_: Any) -> None:
        assert local_files_only, "the slow way was taken"
        raise OSError("not here")

    asked.append(ConnectionError("nobody answers"))
    for each in (transformers.AutoConfig, transformers.AutoTokenizer):
        monkeypatch.setattr(each, "from_pretrained", never)
    with pytest.raises((ModelError, TokenizerError), match=r"'some/nope'.*nobody answers"):
        opened("some/nope")
    assert asked[1:] == [("some/nope", "model")]
