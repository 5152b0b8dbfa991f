"""What is asked of a build: sizes, lengths and tokenizers; and that what is suggested is taken."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from lengthwise._utils import hub
from lengthwise.errors import LengthwiseError
from lengthwise.sequences.builders.base import make_builder
from lengthwise.sequences.documents import Sources
from lengthwise.sequences.encoder import ByteEncoder, load_encoder
from lengthwise.sequences.errors import SequenceError
from lengthwise.sequences.files import parse_bytes, write_bytes
from lengthwise.sequences.records import Fields
from lengthwise.sequences.task import Settings


@given(st.text("0123456789.", max_size=5), st.sampled_from(["", "B", "kb", "MB", "MiB", "GB", "x"]))
@settings(max_examples=100, deadline=None)
def test_a_size_is_taken_or_what_is_suggested_is(number: str, unit: str) -> None:
    given = number + unit
    for _ in range(3):
        try:
            Settings(memory=parse_bytes(given))
            return
        except SequenceError as error:
            suggested = re.search(r"give (\S+) or more|allowed are (\w+),", str(error))
            assert suggested
            given = suggested[1] or suggested[2]
    raise AssertionError(f"{given} was suggested and refused")


@pytest.mark.parametrize(("text", "size"), [
    ("256MB", 256 * 10**6), ("256MiB", 256 << 20), ("1GB", 10**9), ("1 gib", 1 << 30),
    ("1.5GB", 15 * 10**8), ("268435456", 1 << 28),
])  # fmt: skip
def test_sizes_people_write_are_taken_and_written_back(text: str, size: int) -> None:
    assert Settings(memory=parse_bytes(text)).memory == size
    assert parse_bytes(write_bytes(size)) == size


def test_a_size_beyond_any_machine_is_one_line() -> None:
    for text in ("9" * 400, "9" * 5000 + "GB"):
        with pytest.raises(SequenceError, match="more than any machine has"):
            parse_bytes(text)


@given(st.integers(2, 10**9), st.integers(1, 2 * 10**9))
@settings(max_examples=200, deadline=None)
def test_a_length_that_decompose_suggests_is_taken(longest: int, shortest: int) -> None:
    given = {"max_length": longest, "min_length": shortest}
    for _ in range(6):
        try:
            make_builder("decompose", {name: str(value) for name, value in given.items()})
            return
        except LengthwiseError as error:
            said = str(error)
        near = re.match(r"(\w+)=\d+ is no power of two: (?:the nearest are|give) (\d+)", said)
        above = re.search(r"give (min_length)=(\d+) or less", said)
        found = near or above
        assert found, said
        given[found[1]] = int(found[2])
    raise AssertionError(f"{said} led to nothing that is taken")


def test_a_name_that_the_hub_lacks_is_asked_for_once_and_briefly(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import huggingface_hub
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError

    asked: list[tuple[str, str, float]] = []
    response: Any = SimpleNamespace(headers={}, request=None)
    answers: list[Exception] = []

    def repo_info(_: HfApi, name: str, repo_type: str, timeout: float) -> None:
        asked.append((name, repo_type, timeout))
        raise answers[-1]

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("the slow way was taken")

    monkeypatch.setattr(HfApi, "repo_info", repo_info)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", never)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: None)
    for answer, said in (
        (RepositoryNotFoundError("no", response=response), "the hub has no"),
        (ConnectionError("nobody answers"), r"cannot be asked for .*nobody answers"),
    ):
        answers.append(answer)
        with pytest.raises(SequenceError, match=f"no tokenizer 'nosuch/name' .*{said}.*allowed"):
            load_encoder("nosuch/name")
        if pytest.importorskip("datasets"):
            with pytest.raises(SequenceError, match=said):
                Sources(("datasets:nosuch/name,config@test",), Fields()).survey()
    assert [each[:2] for each in asked] == [
        ("nosuch/name", "model"),
        ("nosuch/name", "dataset"),
    ] * 2
    assert all(timeout <= 10 for *_, timeout in asked)
    with pytest.raises(SequenceError, match="'embeded'; did you mean 'embedded'"):
        load_encoder("embeded")
    with pytest.raises(SequenceError, match="is no file, no folder and no name of the hub"):
        monkeypatch.undo()
        load_encoder("a b c")


def test_a_tokenizer_fetched_before_serves_where_the_hub_cannot_be_asked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import huggingface_hub

    ByteEncoder().tokenizer.save(str(tmp_path / "tokenizer.json"))

    monkeypatch.setattr("lengthwise.sequences.encoder.absent", lambda *_, **__: "nobody answers")
    monkeypatch.setattr(
        huggingface_hub, "try_to_load_from_cache", lambda *_: str(tmp_path / "tokenizer.json")
    )
    assert load_encoder("some/name").end == 256
    assert hub.PATIENCE_S <= 10
