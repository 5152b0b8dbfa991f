"""A third party's one-file package: found, held to the same laws, and harmless when broken."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lengthwise.errors import RecipeError
from lengthwise.recipes import parse, registry
from lengthwise.testing import ConformanceError, check_method

PLUGIN = Path(__file__).parent.parent / "plugins" / "lately.py"
MODULES = ("lately", "lately_liar", "lately_broken", "lately_before")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on the path into which packages are installed as pip lays them out."""
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in MODULES:
        sys.modules.pop(name, None)
    monkeypatch.undo()
    registry.refresh()


def install(site: Path, package: str, entry_points: dict[str, str]) -> None:
    info = site / f"{package}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    lines = [f"{name} = {target}" for name, target in entry_points.items()]
    (info / "entry_points.txt").write_text("\n".join([f"[{registry.GROUP}]", *lines]))
    registry.refresh()


def test_a_plugin_is_found_and_conforms(site: Path) -> None:
    shutil.copy(PLUGIN, site)
    install(site, "lately", {"lately": "lately:Lately"})
    assert str(parse("lately(budget=64) + lookup")) == "lately(budget=64) + lookup"
    report = check_method("lately", ("llama", "gemma3_text")).require()
    assert report.passed and not report.refused


def test_a_plugin_that_only_pretends_to_delete_is_found_out(site: Path) -> None:
    text = PLUGIN.read_text().replace("group.keep(", "print(").replace("Lately", "Liar")
    (site / "lately_liar.py").write_text(text)
    install(site, "lately-liar", {"lately": "lately_liar:Liar"})
    with pytest.raises(ConformanceError, match="lately on llama: .* bytes where full holds"):
        check_method("lately", ("llama",)).require()


def test_a_plugin_whose_paper_is_text_is_told_what_to_write(site: Path) -> None:
    old = "paper: ClassVar[None] = None"
    text = PLUGIN.read_text()
    assert text.count(old) == 1
    (site / "lately_before.py").write_text(text.replace(old, 'paper: ClassVar[str] = "A Title"'))
    install(site, "before", {"lately": "lately_before:Lately"})
    with pytest.raises(RecipeError, match=r"'paper' is no Paper: write paper = Paper\('the title'"):
        parse("lately")


def test_a_broken_plugin_harms_no_other_and_is_listed_with_its_error(site: Path) -> None:
    (site / "lately_broken.py").write_text("raise ImportError('no such thing')")
    install(
        site,
        "broken",
        {"bad": "lately_broken:Bad", "gone": "nowhere:Gone", "odd": "json:JSONDecoder",
         "yarn": "lately_broken:Yarn"},
    )  # fmt: skip
    errors = {item.name: item.error for item in registry.registered() if item.error}
    assert errors == {
        "bad": "ImportError: no such thing",
        "gone": "ModuleNotFoundError: No module named 'nowhere'",
        "odd": "TypeError: it is not a dataclass that inherits lengthwise.methods.base.Method",
        "yarn": "the name is already taken by package 'lengthwise'",
    }
    assert str(parse("yarn + lookup")) == "yarn + lookup"
    with pytest.raises(RecipeError, match="method 'bad' of package 'broken' cannot be used"):
        parse("bad")
