"""`lengthwise bytes`: what is asked for is done, or refused by name."""

from __future__ import annotations

import pytest

from tests.called import called


@pytest.mark.parametrize("option", ["--temperature", "--seed"])
def test_options_of_what_is_written_need_something_written(option: str) -> None:
    words = ("bytes", "the cat", "-m", "./nowhere", option, "1")
    status, out, err = called(*words)
    assert (status, out) == (2, "")
    assert f"{option} is of what is written: give --max-new-bytes too" in err
    status, _, err = called(*words, "--max-new-bytes", "2")
    assert status == 2 and "nowhere" in err and option not in err
