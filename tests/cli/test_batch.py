"""`lengthwise batch`: a file that the recipe reads is not written over."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.called import called


def test_a_file_that_the_recipe_reads_is_no_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    line = '{"custom_id": "a", "url": "/v1/completions", "body": {"prompt": "hi"}}\n'
    Path("requests.jsonl").write_text(line)
    Path("some.store").write_text("years of work")
    words = ("batch", "requests.jsonl", "-m", "./nowhere", "-r", "datastore(path=some.store)")
    status, out, err = called(*words, "some.store", "--force")
    assert (status, out) == (2, "") and "would be lost" in err
    assert Path("some.store").read_text() == "years of work"
    status, _, err = called(*words, "new.out")
    assert status == 2 and "nowhere" in err
