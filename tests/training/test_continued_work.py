"""The work folder of a run: gone on with by the same command alone, and what is ours in it goes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from lengthwise.errors import TokenizerError
from lengthwise.tokenization.transplant.mean import Mean
from lengthwise.tokenization.transplant.random import Random
from lengthwise.tokenization.transplant.tokenadapt import TokenAdapt
from lengthwise.training.continued import Continued
from lengthwise.training.continued_work import MARK, START, Work, check_work, deciding
from tests.tokenization.transplant.tiny_pairs import OTHER, byte_level, model_of

ASKED: dict[str, Any] = {"MODEL": "a" * 64, "--by": "Mean()", "--steps": 2}


def test_the_same_goes_on_and_at_the_end_nothing_is_left(tmp_path: Path) -> None:
    held = Work(tmp_path / "run", ASKED)
    assert not held.begun and check_work(tmp_path / "run") == ASKED
    (held.folder / START).mkdir()
    (held.folder / f".{START}.aside").mkdir()
    (held.folder / f".{MARK}.7.aside").write_text("{")
    again = Work(tmp_path / "run", ASKED)
    assert again.begun
    again.done()
    assert not (tmp_path / "run").exists()


def test_what_differs_is_named(tmp_path: Path) -> None:
    Work(tmp_path / "run", ASKED)
    for change, told in (
        ({"--steps": 4}, "a run with --steps 2 and not 4: "),
        ({"MODEL": "b" * 64}, "a run with another MODEL: "),
        ({"--by": "Random(seed=0)"}, r"a run with --by Mean\(\) and not Random\(seed=0\): "),
    ):
        with pytest.raises(TokenizerError, match=told + "set it back .* or name .* --work"):
            Work(tmp_path / "run", ASKED | change)
    assert check_work(tmp_path / "run") == ASKED


def test_folders_of_others_stay(tmp_path: Path) -> None:
    (tmp_path / "start").mkdir()
    with pytest.raises(TokenizerError, match="something else"):
        Work(tmp_path, ASKED)
    assert [each.name for each in tmp_path.iterdir()] == ["start"]
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / f".{MARK}.7.aside").write_text("{")
    held = Work(tmp_path / "empty", ASKED)
    (held.folder / "notes.txt").write_text("mine")
    held.done()
    assert [each.name for each in held.folder.iterdir()] == ["notes.txt"]


def test_a_run_comes_of_weights_tokenizer_text_rows_and_settings(tmp_path: Path) -> None:
    own, text, encoder = byte_level(), tmp_path / "text.txt", tmp_path / "encoder"
    text.write_text(OTHER)
    encoder.mkdir()
    (encoder / "weights").write_text("1")
    learn, model = (str(text),), model_of(own)
    by = TokenAdapt(encoder=str(encoder))

    def found(**changes: Any) -> dict[str, Any]:
        given = {"model": model, "new": own, "method": by, "how": Continued(), **changes}
        return deciding(learn=learn, **given)

    first = found()
    assert first == found(model=model_of(own))
    others: list[tuple[dict[str, Any], set[str]]] = [
        ({"new": byte_level(OTHER)}, {"tokenizer"}), ({"how": Continued(lr=0.5)}, {"--lr"}),
        ({"method": Random(seed=3)}, {"--by"}), ({"method": Mean()}, {"--by"}),
        ({"model": model_of(own).to(torch.bfloat16)}, {"MODEL"}),
    ]  # fmt: skip
    for changes, names in others:
        other = found(**changes)
        assert {name for name in other if other[name] != first.get(name)} == names
    torch.nn.init.zeros_(model.model.norm.weight)
    (encoder / "weights").write_text("2")
    text.write_text(OTHER * 2)
    other = found()
    assert {name for name in other if other[name] != first[name]} == {
        "MODEL", "encoder of --by", "--learn"
    }  # fmt: skip
