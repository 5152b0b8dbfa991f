"""The page of each role holds a whole file that works, as short as the page says."""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from lengthwise import plugin
from lengthwise.methods.base import Method
from lengthwise.methods.slots import questions
from lengthwise.testing import KINDS, ConformanceError, check_method
from lengthwise.testing.checks import overrides
from lengthwise.testing.find_class import method_at

ROOT = Path(__file__).parents[1]
ROLES = ROOT / "docs" / "roles"
CONTRIBUTING = ROOT / "CONTRIBUTING.md"
PAGES = [*sorted(ROLES.glob("*.md")), CONTRIBUTING]
# The hook that makes a method one of the role of a page.
HOOKS = {
    "retention": "start_retention", "selection": "start_selector", "codec": "start_format",
    "drafter": "start_drafter", "verifier": "start_verifier", "law": "start_law",
    "position": "frequencies",
    "CONTRIBUTING": "start_retention",
}  # fmt: skip
MOST_LINES = {"retention": 15, "drafter": 12, "selection": 15, "CONTRIBUTING": 15}
CHECKED = re.compile(r"python -m lengthwise\.testing (\w+)\.py:(\w+)")


def blocks(page: Path, language: str) -> list[str]:
    """The blocks of code of a page; those of a list stand as far in as its text."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```$", page.read_text("utf-8"), re.M | re.S)
    return [re.sub(rf"^{indent}", "", text, flags=re.M) for indent, text in found]


def lines_of_code(text: str) -> int:
    """Lines without blank ones and docstrings; imports count."""
    tree, lines = ast.parse(text), set(range(1, text.count("\n") + 2))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            first = node.body[0]
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                lines -= set(range(first.lineno, (first.end_lineno or first.lineno) + 1))
    return sum(bool(line.strip()) for n, line in enumerate(text.splitlines(), 1) if n in lines)


@pytest.fixture
def modules(tmp_path: Path) -> Iterator[None]:
    """Files that are imported from a folder of a test are forgotten after it, and nothing else:
    classes of a library look for their module."""
    before, path = set(sys.modules), list(sys.path)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def test_there_is_a_page_for_every_role() -> None:
    assert {page.stem for page in PAGES} == set(HOOKS)
    navigation = (ROOT / "mkdocs.yml").read_text("utf-8")
    assert re.findall(r"- roles/(\w+)\.md", navigation) == [
        "retention", "selection", "codec", "drafter", "verifier", "law", "position",
    ]  # fmt: skip


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_example_of_a_page_passes_the_checks(page: Path, tmp_path: Path, modules: None) -> None:
    """It is written to the file, and checked under the name, that the page's command gives."""
    ((stem, cls),) = CHECKED.findall(page.read_text("utf-8"))
    path = tmp_path / f"{stem}.py"
    path.write_text(blocks(page, "python")[0])
    method = method_at(f"{path}:{cls}")
    assert method.question in questions() and overrides(method, HOOKS[page.stem])
    report = check_method(method, ("llama",)).require()
    assert report.passed and not report.refused


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_an_example_imports_nothing_else_of_lengthwise(page: Path) -> None:
    tree = ast.parse(blocks(page, "python")[0])
    found = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    found |= {a.name for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names}
    ours = {name for name in found if name is not None and name.startswith("lengthwise")}
    assert ours == {"lengthwise.plugin"}


@pytest.mark.parametrize("stem", MOST_LINES)
def test_an_example_is_short(stem: str) -> None:
    (page,) = (page for page in PAGES if page.stem == stem)
    assert lines_of_code(blocks(page, "python")[0]) <= MOST_LINES[stem]


def test_lines_are_counted_with_imports_and_without_docstrings() -> None:
    assert (
        lines_of_code('"""A.\n\nB.\n"""\nimport os\n\n\nclass C:\n    """D."""\n\n    x = 1\n') == 3
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_registers_the_class_of_its_example(page: Path) -> None:
    ((stem, cls),) = CHECKED.findall(page.read_text("utf-8"))
    (toml,) = blocks(page, "toml")
    ((name, target),) = tomllib.loads(toml)["project"]["entry-points"]["lengthwise.methods"].items()
    assert target.partition(":")[2] == cls
    assert f'name = "{name}"' in blocks(page, "python")[0]


@pytest.mark.parametrize("page", PAGES[:-1], ids=lambda page: page.stem)
def test_a_page_names_the_checks_of_its_role(page: Path) -> None:
    said = set(re.findall(r"`(\w+)`", page.read_text("utf-8")))
    hook = HOOKS[page.stem]
    asked = {kind.name for kind in KINDS if kind.needs == hook}
    decides = hook in ("start_verifier", "start_policy")
    asked |= {kind.name for kind in KINDS if not kind.needs and (kind.decides or not decides)}
    assert asked <= said


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_names_that_a_page_calls_by_are_in_the_plugin_module(page: Path) -> None:
    """Classes in running text, but for those of the page's own example."""
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.S)
    own = {node.name for code in blocks(page, "python") for node in ast.walk(ast.parse(code))
           if isinstance(node, ast.ClassDef)}  # fmt: skip
    classes = set(re.findall(r"`([A-Z][a-z]\w+)\b", text)) - own
    assert classes <= set(plugin.__all__)


def load(path: Path) -> type[Method]:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return next(
        each for each in vars(module).values()
        if isinstance(each, type) and each.__module__ == path.stem
    )  # fmt: skip


def test_an_example_that_is_spoilt_does_not_pass(tmp_path: Path, modules: None) -> None:
    """The checks look at what the page shows, not at the base alone."""
    text = blocks(ROLES / "retention.md", "python")[0]
    spoilt = tmp_path / "spoilt.py"
    spoilt.write_text(text.replace("-key.norm(dim=-1)", "key.norm(dim=1)"))
    with pytest.raises(ConformanceError, match=r"knorm.score gave shape \[2, 16\], and \[2, "):
        check_method(load(spoilt), ("llama",)).require()
