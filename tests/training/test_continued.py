"""Training behind a transplant: what changes, what stays, and that a stopped run goes on."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from lengthwise.errors import LengthwiseError
from lengthwise.tokenization.transplant.extend import extended
from lengthwise.tokenization.transplant.folder import save
from lengthwise.tokenization.transplant.surgery import transplant
from lengthwise.training.continued import Continued, go_on
from lengthwise.training.progress import TrainingProgress
from tests.tokenization.transplant.tiny_pairs import OTHER, byte_level, model_of


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("continued")
    own = byte_level()
    found = transplant(model_of(own), own, extended(own, lambda: iter([OTHER]), 30))
    save(place / "start", found.model, found.tokenizer, {})
    (place / "text.txt").write_text(OTHER * 8)
    return place


@pytest.mark.parametrize("which", ["all", "embeddings"])
def test_weights_that_are_asked_for_change(start: Path, tmp_path: Path, which: str) -> None:
    how = Continued(steps=4, length=32, rows=2, lr=1e-3, train=which)
    outcome = go_on(start / "start", (str(start / "text.txt"),), tmp_path, how)
    assert outcome.step == 4
    before = AutoModelForCausalLM.from_pretrained(start / "start").state_dict()
    place = tmp_path / "run" / "model"
    after = AutoModelForCausalLM.from_pretrained(place).state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert "model.embed_tokens.weight" in changed
    assert any("layers" in name for name in changed) == (which == "all")
    text = OTHER[:50]
    assert AutoTokenizer.from_pretrained(place).encode(text) == AutoTokenizer.from_pretrained(
        start / "start"
    ).encode(text)


def test_a_run_that_was_stopped_goes_on_with_embeddings_alone(start: Path, tmp_path: Path) -> None:
    how = Continued(steps=4, length=32, rows=2, lr=1e-3, train="embeddings")
    sources = (str(start / "text.txt"),)
    go_on(start / "start", sources, tmp_path / "whole", how)

    class Stop(TrainingProgress):
        def step(self, step: int, steps: int, record: dict[str, object]) -> None:
            import os
            import signal

            os.kill(os.getpid(), signal.SIGINT)

    import dataclasses

    from lengthwise.training import continued

    table = continued._table

    def often(*arguments: object) -> dict[str, object]:
        return {**table(*arguments), "log": {"every": 2, "plot_every": 0}}  # type: ignore[arg-type]

    continued._table = often  # type: ignore[assignment]
    try:
        stopped = go_on(start / "start", sources, tmp_path / "parts", how, progress=Stop())
        assert stopped.signal is not None and stopped.step == 2
        again = go_on(start / "start", sources, tmp_path / "parts", how)
    finally:
        continued._table = table
    assert again.step == 4
    one, other = (
        AutoModelForCausalLM.from_pretrained(tmp_path / name / "run" / "model").state_dict()
        for name in ("whole", "parts")
    )
    assert all(torch.equal(one[name], other[name]) for name in one)
    with pytest.raises(LengthwiseError, match="model.train"):
        go_on(start / "start", sources, tmp_path / "parts", dataclasses.replace(how, train="all"))


def test_too_little_text_is_refused(start: Path, tmp_path: Path) -> None:
    (tmp_path / "short.txt").write_text("Bir kedi.")
    with pytest.raises(LengthwiseError, match="no row of 512 tokens: .* a smaller --length"):
        go_on(
            start / "start", (str(tmp_path / "short.txt"),), tmp_path / "work",
            Continued(steps=2, length=512),
        )  # fmt: skip


def test_a_run_by_another_path_to_its_folders_is_the_same(
    start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    how = Continued(steps=2, length=32, rows=2)
    monkeypatch.chdir(start)
    work = tmp_path / "work"
    work.mkdir()
    (tmp_path / "link").symlink_to("work")
    for model, text, place in (
        (Path("start"), "text.txt", Path(os.path.relpath(work))),
        (start / "start", str(start / "text.txt"), tmp_path / "link"),
    ):
        assert go_on(model, (text,), place, how).step == 2


@pytest.mark.parametrize(("end", "found"), [(None, "<|endoftext|>"), ("</s>", "</s>")])
def test_documents_end_with_the_token_that_is_named(
    start: Path, tmp_path: Path, end: str | None, found: str
) -> None:
    own = byte_level(specials=("</s>",), template=False)
    new = byte_level(OTHER, 300, ("<|endoftext|>",), template=False)
    made = transplant(model_of(own), own, new)
    save(tmp_path / "start", made.model, made.tokenizer, {})
    sources, how = (str(start / "text.txt"),), Continued(steps=1, length=32, rows=2)
    go_on(tmp_path / "start", sources, tmp_path / "work", how, end=end)
    manifest = next((tmp_path / "work" / "data").rglob("manifest.json"))
    assert json.loads(manifest.read_text())["tokenizer"]["end_token"] == found
