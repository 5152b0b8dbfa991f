"""The reproduction pages: their tables are what the checks wrote, their commands are there."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.scripts import ROOT, rows, script

PAGES = sorted((ROOT / "docs" / "reproduction").glob("*.md"))
FIGURES = ROOT / "docs" / "figures.py"
RESULTS = ROOT / "benchmarks" / "reproduction" / "results"
COMMAND = "python -m benchmarks.reproduction "


@pytest.fixture(scope="module")
def listed() -> dict[tuple[str, str], list[str]]:
    """Options of every check, with a question mark where one may be left out."""
    done = script("benchmarks.reproduction", "--list")
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    return {(name, check): options for name, check, *options in lines}


def fits(command: str, listed: dict[tuple[str, str], list[str]]) -> bool:
    """Whether a command names a check that is there, and its options."""
    name, *rest = shlex.split(command.removeprefix(COMMAND))
    checks = [check for file, check in listed if file == name]
    if not checks:
        return False
    own = name.partition("/")[2]
    first = own if own in checks else checks[0]
    check = rest.pop(0) if rest and not rest[0].startswith("--") else first
    options = listed.get((name, check))
    given = {word for word in rest if word.startswith("--")}
    return options is not None and (
        given <= {option.rstrip("?") for option in options}
        and {option for option in options if not option.endswith("?")} <= given
    )


def test_tables_of_pages_are_what_the_checks_wrote() -> None:
    done = subprocess.run([sys.executable, FIGURES, "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_command_in_a_page_is_a_check_with_its_options(
    listed: dict[tuple[str, str], list[str]],
) -> None:
    found = 0
    for page in [*PAGES, *sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md"]:
        text = page.read_text(encoding="utf-8")
        assert "benchmarks.checks" not in text, page.name
        for command in re.findall(rf"(?:^    |`)({COMMAND}.*?)(?:`|  +#.*)?$", text, re.M):
            command = command.partition("`")[0]
            assert fits(command, listed), f"{page.name}: {command}"
            found += 1
    assert found > 60


def test_a_command_that_fits_no_check_is_told(listed: dict[tuple[str, str], list[str]]) -> None:
    for wrong in ("codecs/none", "codecs/kivi none", "codecs/kivi --none 1", "training/stack"):
        assert not fits(COMMAND + wrong, listed), wrong


def test_results_have_an_origin_and_rows_that_fit_the_checks(
    listed: dict[tuple[str, str], list[str]],
) -> None:
    paths = sorted(RESULTS.rglob("*.json"))
    assert paths
    for path in paths:
        name = path.relative_to(RESULTS).with_suffix("").as_posix()
        for title, table in json.loads(path.read_text(encoding="utf-8"))["tables"].items():
            assert (name, title.partition(".")[0]) in listed, f"{name} {title}"
            origin = table["origin"]
            assert fits(origin["command"], listed), f"{name} {title}: {origin['command']}"
            assert table["rows"], f"{name} {title}"
            for row in table["rows"]:
                assert set(row) <= set(table["columns"]), f"{name} {title}"
            assert not re.search(r" /\w", origin["command"]), f"{name} names a place of one machine"
            if origin.get("recorded") is None:
                assert origin["machine"] and origin["versions"] and origin["date"]
            else:
                assert origin["recorded"] == "from the page" and origin["commit"] is None


def test_every_result_stands_in_a_page() -> None:
    shown = set()
    for page in [*PAGES, *sorted((ROOT / "docs").glob("*.md"))]:
        text = page.read_text(encoding="utf-8")
        for file, table in re.findall(r"<!-- figures: ([\w/]+)(?: ([\w.]+))?", text):
            shown.add((file, table or file.rpartition("/")[2]))
    for path in sorted(RESULTS.rglob("*.json")):
        name = path.relative_to(RESULTS).with_suffix("").as_posix()
        first = next(iter(json.loads(path.read_text(encoding="utf-8"))["tables"]))
        assert any(file == name for file, _ in shown), f"{name} {first}"


def test_a_check_writes_rows_with_their_origin(tmp_path: Path) -> None:
    found = rows(tmp_path, "drafting/rapid", "distances", "--pairs", "20")
    assert len(found) == 10
    # Where nothing is pulled the paper's residual and ours leave the target's distribution alone.
    assert found[0] == {"mask": "p_hat", "eta": 0.0, **dict.fromkeys(list(found[0])[3:], 0.0),
                        "accepted": found[0]["accepted"]}  # fmt: skip
    assert all(row["ours, to p_hat"] == 0 for row in found)
    table = json.loads((tmp_path / "found.json").read_text())["tables"]["distances"]
    assert table["origin"]["command"] == f"{COMMAND}drafting/rapid distances --pairs 20"
    assert {"machine", "versions", "commit", "date"} <= set(table["origin"])


@pytest.mark.slow
def test_a_check_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    for wrong in (["codecs/none"], ["codecs/kivi", "none"], []):
        done = script("benchmarks.reproduction", *wrong)
        assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr


def test_no_test_imports_benchmarks_and_no_benchmark_takes_a_private_name() -> None:
    for path in (ROOT / "tests").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"^\s*(from|import) benchmarks\b", text, re.M), path.name
    for path in (ROOT / "benchmarks").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        for names in re.findall(r"^from lengthwise\S* import (\([^)]*\)|.*)$", text, re.M):
            assert not re.search(r"\b_\w", names), f"{path.name}: {names}"
        for module in re.findall(r"^(?:from|import) (lengthwise\S*)", text, re.M):
            assert "._" not in module, f"{path.name}: {module}"
