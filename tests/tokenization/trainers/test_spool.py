"""A corpus on the disk: whole characters, one digest, and nothing of an earlier one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lengthwise.tokenization.trainers import spool as module
from lengthwise.tokenization.trainers.spool import Corpus, spool

TEXTS = ["one", "", "zwölf é", "\U0001f600" * 3]


def _read(corpus: Corpus) -> list[str]:
    found = []
    for data, bounds in corpus.chunks():
        raw = data.tobytes()
        ends = bounds.tolist()
        found += [raw[a:b].decode() for a, b in zip(ends, ends[1:], strict=False)]
    return found


@pytest.mark.parametrize("chunk", [1, 8, 1 << 20])
def test_documents_come_back(chunk: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CHUNK", chunk)
    corpus = spool(lambda: iter(TEXTS), tmp_path)
    assert _read(corpus) == [text for text in TEXTS if text]
    assert corpus.bytes_read == sum(len(text.encode()) for text in TEXTS)


@pytest.mark.parametrize("limit", range(1, 13))
def test_a_limit_cuts_no_character(limit: int, tmp_path: Path) -> None:
    corpus = replace(spool(lambda: iter(TEXTS), tmp_path), limit=limit)
    for found, text in zip(_read(corpus), (text for text in TEXTS if text), strict=True):
        assert text.startswith(found) and len(found.encode()) <= limit
        assert len(found.encode()) > limit - 4 or found == text


def test_the_digest_is_of_texts_and_their_borders(tmp_path: Path) -> None:
    digests = {
        spool(lambda texts=texts: iter(texts), tmp_path).digest
        for texts in (["ab", "c"], ["a", "bc"], ["abc"], ["ab", "", "c"])
    }
    assert len(digests) == 3


def test_damaged_notes_are_written_anew(tmp_path: Path) -> None:
    first = spool(lambda: iter(TEXTS), tmp_path)
    (tmp_path / "texts.json").write_text("{")
    again = spool(lambda: iter(TEXTS), tmp_path)
    assert again.digest == first.digest and _read(again) == _read(first)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["texts.bin", "texts.json"]
