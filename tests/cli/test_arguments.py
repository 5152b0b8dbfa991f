"""What arguments are read as."""

from __future__ import annotations

import click
import pytest

from lengthwise.cli.arguments import Bytes


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("4000000000", 4_000_000_000), (" 4 ", 4), ("0", 0), ("64MB", 64_000_000),
        ("2GiB", 2 << 30), ("1.5kB", 1500),
    ],
)  # fmt: skip
def test_a_number_without_a_unit_is_bytes(written: str, meant: int) -> None:
    assert Bytes().convert(written, None, None) == meant


@pytest.mark.parametrize("written", ["1e9", "0.5", "25%", "-1", "x", "9" * 5000, "9" * 400 + "GB"])
def test_what_is_no_number_of_bytes_says_both_ways_to_write_one(written: str) -> None:
    with pytest.raises(click.BadParameter, match="such as 4000000000, or a unit too, such as 64MB"):
        Bytes().convert(written, None, None)
