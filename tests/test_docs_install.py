"""The first pages of a new user: what to install, where it lies, which figures they repeat."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from lengthwise._utils import embedded_file
from lengthwise.cli.main import EXTRAS
from lengthwise.models import embedded

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
INSTALL = (DOCS / "install.md").read_text(encoding="utf-8")
RECIPES = (DOCS / "recipes.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_extra_is_there_with_the_verbs_that_need_it() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    section = INSTALL.split("## Extras")[1].split("## ")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", section, re.M))
    assert set(rows) == set(project["optional-dependencies"])
    for verb, extra in EXTRAS.items():
        assert f"`{verb}" in rows[extra]


def test_the_python_that_is_needed_is_the_one_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    least = project["requires-python"].removeprefix(">=")
    assert f"Python {least}" in INSTALL and f"Python {least}+" in README


def test_what_is_cached_is_named_and_sized_as_the_code_has_it() -> None:
    assert "LENGTHWISE_CACHE" in INSTALL and "HF_HOME" in INSTALL
    assert f"`{embedded_file.download_folder().name}`" in INSTALL
    assert f"{embedded_file.DISTRIBUTION}=={embedded_file.VERSION}" in INSTALL
    assert f"`{embedded_file.NAME}-...-bfloat16-{embedded._LAYOUT}`" in INSTALL
    weights = 2 * embedded._PARAMETERS / 2**20
    (said,) = re.findall(r"bfloat16-1` \| (\d+) MiB", INSTALL)
    assert abs(int(said) - weights) / weights < 0.05
    assert f"{embedded_file.GGUF_BYTES / 2**20:.0f} MiB" in INSTALL
    assert f"{embedded_file.WHEEL_BYTES / 1e6:.0f} MB" in INSTALL


def test_the_readme_begins_with_two_commands_and_leads_to_the_rest() -> None:
    first, second = re.findall(r"^    (\S.*?)(?:  +#.*)?$", README, re.M)[:2]
    assert first == "make demo"
    assert second.startswith(".venv/bin/lengthwise compare ")
    assert README.index("docs/install.md") < README.index("## ")


@pytest.mark.parametrize("page", [ROOT / "README.md", *sorted(DOCS.glob("*.md"))],
                         ids=lambda page: page.name)  # fmt: skip
def test_pages_that_make_a_dataframe_say_what_it_needs(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    if "to_dataframe()" in text:
        assert "pandas" in text


def test_what_reads_sooner_repeats_the_page_of_its_day() -> None:
    """Seconds of the page of recipes are those measured, and what is called sooner is."""
    section = RECIPES.split("### What reads sooner")[1].split("\n## ")[0]
    (page,) = set(re.findall(r"\(\.\./(benchmarks/results/[\d-]+\.md)\)", section))
    measured = (ROOT / page).read_text(encoding="utf-8")
    rows = re.findall(r"^\| 16,384 \| `(\w+)` \| ([\d.]+) \| ([\d.]+) \|$", section, re.M)
    assert [name for name, _, _ in rows] == ["infllm", "token_select"]
    for name, seconds, full in rows:
        assert f"| {name} | {seconds} | {full} |" in measured
        assert float(seconds) < float(full)
