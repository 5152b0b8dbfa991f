"""The site: links lead to its own pages, and what is broken is a warning, which ends the build."""

from __future__ import annotations

import logging
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mkdocs", reason="pip install '.[docs]'")
ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "docs"))
import griffe_fields  # noqa: E402
import site_pages  # noqa: E402


@pytest.mark.parametrize(
    ("link", "source", "page", "wanted"),
    [
        ("recipes.md", "docs/check.md", "check.md", "recipes.md"),
        ("docs/recipes.md#which-one", "README.md", "index.md", "recipes.md#which-one"),
        ("../README.md", "docs/recipes.md", "recipes.md", "index.md"),
        ("../../CONTRIBUTING.md", "docs/reference/methods.md", "reference/methods.md",
         "../contributing.md"),
        ("../benchmarks/results/2026-11-26.md", "docs/drafting.md", "drafting.md",
         "results/2026-11-26.md"),
        ("docs/reproduction", "README.md", "index.md", "reproduction/index.md"),
        ("reproduction/snapkv.md", "docs/check.md", "check.md", "methods/snapkv.md#reproduction"),
        ("snapkv.md", "docs/reproduction/pyramidkv.md", "methods/pyramidkv.md",
         "snapkv.md#reproduction"),
        ("decompose.md", "docs/reproduction/utk.md", "reproduction/utk.md", "decompose.md"),
        ("decompose.png", "docs/reproduction/decompose.md", "reproduction/decompose.md",
         "decompose.png"),
        ("../src/lengthwise/errors.py", "docs/design.md", "design.md",
         "source/src/lengthwise/errors.py.md"),
        ("../src/lengthwise/engine", "docs/design.md", "design.md",
         "source/src/lengthwise/engine/__init__.py.md"),
        ("https://pytorch.org", "docs/install.md", "install.md", "https://pytorch.org"),
        ("#extras", "docs/install.md", "install.md", "#extras"),
    ],
)  # fmt: skip
def test_a_link_leads_to_the_page_of_the_site(
    link: str, source: str, page: str, wanted: str, caplog: pytest.LogCaptureFixture
) -> None:
    text = f"see [it]({link})"
    assert site_pages._rewritten(text, source, page) == f"see [it]({wanted})"
    assert not caplog.records


def test_a_link_to_nothing_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        site_pages._rewritten("[it](nowhere.md)", "docs/check.md", "check.md")
    assert "docs/check.md links to nowhere.md, which is not there" in caplog.text


def test_code_is_left_as_it_is() -> None:
    text = "    [a](nowhere.md)\n```\n[b](nowhere.md)\n```\n"
    assert site_pages._rewritten(text, "docs/check.md", "check.md") == text.rstrip("\n")


def test_what_belongs_to_a_numbered_item_stands_four_spaces_in() -> None:
    text = "1. First:\n\n   ```python\n   x = 1\n   ```\n\nafter\n\n   not of a list"
    wanted = "1. First:\n\n    ```python\n    x = 1\n    ```\n\nafter\n\n   not of a list"
    assert site_pages._indented(text) == wanted


def test_every_method_stands_in_the_navigation() -> None:
    pages = [p for part in site_pages._methods_nav() if isinstance(part, dict)
             for inside in part.values() for p in inside]  # fmt: skip
    assert sorted(pages) == [f"methods/{stem}.md" for stem in site_pages.METHODS]


def test_the_site_fetches_nothing_and_a_warning_ends_the_build() -> None:
    config = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert "\nstrict: true\n" in config and "  font: false\n" in config
    assert not re.search(r"https?://", config)
    checks = config.split("\nvalidation:\n")[1].split("\n\n")[0]
    kinds = re.findall(r"(\w+): (warn|info|ignore)", checks)
    assert len(kinds) == 7 and {level for _, level in kinds} == {"warn"}


def test_lines_about_parameters_are_a_list() -> None:
    text = "Reads on.\n\nchunk: tokens of a forward,\nat least one.\nother: left\nRaises Error."
    wanted = "Reads on.\n\n- `chunk`: tokens of a forward,\n  at least one.\n  other: left\n\n"
    wanted += "Raises Error."
    assert griffe_fields.listed(text, {"chunk"}) == wanted
    assert griffe_fields.listed("note: this\nOurs: that", {"chunk"}) == "note: this\nOurs: that"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("page", "more", "said"),
    [
        ("check.md", "", ""),
        ("check.md", "[it](gone.md)", "gone.md"),
        ("check.md", "[it](recipes.md#gone)", "does not contain an anchor '#gone'"),
        ("reference/python.md", "::: lengthwise.gone", "Could not collect 'lengthwise.gone'"),
        ("gone.md", "# Of no section", 'not included in the "nav"'),
    ],
    ids=["as it is", "a broken link", "a broken anchor", "an unknown name", "a page left out"],
)
def test_what_is_broken_ends_the_build(tmp_path: Path, page: str, more: str, said: str) -> None:
    """By the command of `make site`: with an option more, warnings might not be counted."""
    (command,) = re.findall(
        r"\$\(BIN\)/python (-m mkdocs build.*)", (ROOT / "Makefile").read_text()
    )
    for name in ("mkdocs.yml", "README.md", "CONTRIBUTING.md", "CHANGELOG.md"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    for name in ("src", "benchmarks"):
        (tmp_path / name).symlink_to(ROOT / name)
    with (tmp_path / "docs" / page).open("a", encoding="utf-8") as file:
        file.write(f"\n{more}\n")
    done = subprocess.run(
        [sys.executable, *shlex.split(command)], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode == 0) == (not more), done.stderr
    assert said in done.stderr
