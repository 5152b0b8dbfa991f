"""Scaling laws from files and the command line: what is read, said and refused."""

from __future__ import annotations

import csv
import json
import re
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from lengthwise.cli.scaling import scaling
from lengthwise.errors import LengthwiseError
from lengthwise.scaling import (
    ScalingError,
    find_law,
    fit_law,
    read_table,
)
from lengthwise.scaling.checks import table
from lengthwise.scaling.plot import check_plot
from lengthwise.scaling.predict import solve
from tests.scaling_runs import Columns, runs

ROOT = Path(__file__).parents[2]


def write_csv(path: Path, columns: Columns) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*(column.tolist() for column in columns.values()), strict=True))
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(scaling, [str(each) for each in arguments])


def test_columns_are_derived_renamed_and_taken_from_a_logs_header(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    lines: list[dict[str, object]] = [{"parameters": 3e6, "recipe": "concat"}]
    lines += [{"step": step, "tokens": 4096 * step, "loss": 9.0 - step} for step in (1, 2, 3)]
    log.write_text("\n".join(map(json.dumps, lines)))
    rename = {"N": "parameters", "D": "tokens", "L": "loss"}
    found = read_table([log], find_law("over_training"), rename)
    assert found.columns["M"].tolist() == [4096 * s / 3e6 for s in (1, 2, 3)]
    assert found.columns["L"].tolist() == [8, 7, 6]
    assert "M computed as D / N" in found.notes and "1 records without loss" in found.notes[0]
    assert read_table([log, log], find_law("chinchilla"), rename, last=True).columns[
        "L"
    ].tolist() == [6, 6]


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_columns_may_be_separated_by_semicolons_or_tabs(tmp_path: Path, delimiter: str) -> None:
    path = tmp_path / "runs.csv"
    path.write_text("N,D,L\n1e8,2e9,3.5\n2e8,4e9,3.1\n".replace(",", delimiter))
    found = read_table([path], find_law("chinchilla"))
    assert found.columns["N"].tolist() == [1e8, 2e8] and found.columns["L"].tolist() == [3.5, 3.1]
    assert found.notes == (f"runs.csv: columns are separated by {delimiter!r}",)


def test_a_sign_that_ends_no_line_of_csv_or_json_ends_no_record(tmp_path: Path) -> None:
    table, log = tmp_path / "runs.csv", tmp_path / "log.jsonl"
    table.write_text('N,D,L,note\n1e8,2e9,3.5,"a\u2028b"\n2e8,4e9,3.1,"a\nb"\n', encoding="utf-8")
    record = {"N": 1e8, "D": 2e9, "L": 3.5, "note": "a\x85b"}
    log.write_text(json.dumps(record, ensure_ascii=False) + "\n", encoding="utf-8")
    assert read_table([table], find_law("chinchilla")).columns["L"].tolist() == [3.5, 3.1]
    assert read_table([log], find_law("chinchilla")).columns["L"].tolist() == [3.5]


def test_what_a_log_says_of_its_steps_cost_is_no_row(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    lines = [{"kind": "evaluation", "D": 10, "error": 0.5}, {"kind": "cost", "error": 0.02}]
    log.write_text("\n".join(map(json.dumps, lines)))
    found = read_table([log], find_law("learning_curve"), {"m": "D"}, last=True)
    assert found.columns["error"].tolist() == [0.5]


def test_without_scipy_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy", None)
    for ask in (
        lambda: fit_law(find_law("chinchilla"), runs()),
        lambda: solve(find_law("vocabulary"), find_law("vocabulary").published().values,
                      {"Nnv": 7e9}),
        table,
    ):  # fmt: skip
        with pytest.raises(ScalingError, match=r"lengthwise\[scaling\]"):
            ask()


def test_the_extra_that_a_plot_names_exists(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ScalingError) as refused:
        check_plot(Path("fit.png"))
    named = re.findall(r"lengthwise\[(\w+)\]", str(refused.value))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    assert named and any("matplotlib" in each for each in extras[named[0]])


def test_a_folder_is_refused_before_the_fit(tmp_path: Path) -> None:
    data = write_csv(tmp_path / "runs.csv", runs())
    (tmp_path / "a.png").mkdir()
    for option in ("--save", "--out"):
        done = run("fit", data, "--law", "chinchilla", option, tmp_path / "a.png")
        assert isinstance(done.exception, LengthwiseError)
        assert "this is a folder" in str(done.exception)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "", "no rows"),
        ("a.csv", "N,D,loss\n1,2,3\n", "needs column 'L', which is missing"),
        ("a.csv", "n,D,L\n1,2,3\n", "did you mean 'n'"),
        ("a.csv", "N,D,L\n1,2,3\n1,nan,3\n", "line 3: D is nan"),
        ("a.csv", "N,D,L\n1,2,-3\n", "line 2: L is -3; law chinchilla needs it above 0"),
        ("a.csv", "N,D,L\n1,x,3\n", "line 2: D is 'x', which is no number"),
        ("a.csv", "N,D,L\n1,2\n", "line 2: not as many values"),
        ("a.csv", "N,N,D,L\n1,2,3,4\n", "line 1: two columns are called 'N'"),
        ("a.csv", "N;D;L\n1;2;3,5\n", "line 2: L is '3,5', which is no number"),
        ("a.jsonl", '{"N": 1}\n{', "line 2: not JSON"),
        ("a.jsonl", '{"kind": "cost", "N": 1, "D": 2, "L": 3}', "no rows"),
        ("a.jsonl", '{"N": 1, "D": 2}', "no record has 'L'"),
        ("a.jsonl", "[1]", "line 1: not a JSON object"),
        ("a.jsonl", '{"N": true, "D": 2, "L": 3}', "line 1: N is True"),
    ],
)
def test_bad_files_are_refused_with_line_and_column(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(ScalingError, match=message.replace("(", r"\(")):
        read_table([path], find_law("chinchilla"))


def test_fit_save_plot_predict_and_solve_from_the_command_line(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    data = write_csv(tmp_path / "runs.csv", runs(40))
    kept, picture = tmp_path / "fit.json", tmp_path / "fit.png"
    done = run("fit", data, "--law", "chinchilla", "--bootstrap", 10, "--save", kept,
               "--out", picture)  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "alpha = 0.3" in done.output and "95%:" in done.output
    assert picture.read_bytes()[:4] == b"\x89PNG"
    told = run("predict", "--constants", kept, "--at", "N=7e10,D=1.4e12")
    assert "L = 1.9" in told.output and "times the largest fitted" in told.output
    assert "N = " in run("solve", "--constants", kept, "--at", "C=1e21").output
    curve = {"m": np.geomspace(1e3, 1e6, 9), "error": 3 * np.geomspace(1e3, 1e6, 9) ** -0.2}
    one = write_csv(tmp_path / "one.csv", curve)
    done = run("fit", one, "--law", "learning_curve", "--bootstrap", 4, "--json",
               "--out", tmp_path / "one.svg")  # fmt: skip
    printed = json.loads(done.stdout)
    assert printed["values"]["beta_g"] == pytest.approx(-0.2, rel=0.01)
    assert "gamma" in printed["notes"][0]


def test_published_constants_predict_from_the_command_line() -> None:
    told = run("predict", "--law", "chinchilla", "--at", "N=1e9,D=2e10")
    assert told.output.startswith("N=1e9,D=2e10: L = 2.5") and "warning" not in told.output
    told = run("predict", "--law", "learning_curve", "--constants", "paper:speech_ds2",
               "--set", "alpha=3", "--set", "gamma=1e-3", "--at", "m=1e6")  # fmt: skip
    assert f"error = {3 * 1e6**-0.299 + 1e-3:.6g}" in told.output and "memory" in told.output
    assert "low_bit" in run("laws").output and "gptq" in run("laws", "low_bit").output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("predict", "--law", "chinchila", "--at", "N=1"), "did you mean 'chinchilla'"),
        (("predict", "--law", "chinchilla", "--at", "N=1e9"), "needs D"),
        (("predict", "--law", "chinchilla", "--at", "N=1e9,d=3"), "did you mean 'D'"),
        (("predict", "--law", "chinchilla", "--at", "N=x,D=1"), "no number"),
        (("predict", "--law", "chinchilla", "--at", "N=-1,D=1"), "must be finite and above 0"),
        (("predict", "--law", "chinchilla", "--at", "N"), "form NAME=VALUE"),
        (("predict", "--law", "chinchilla", "--at", "N=1,N=2"), "twice"),
        (("predict", "--at", "N=1"), "--law is missing"),
        (("predict", "--law", "over_training", "--constants", "paper:pile", "--at", "N=1"),
         "no constants 'pile'"),
        (("predict", "--law", "learning_curve", "--at", "m=5"), "lacks a value for alpha, gamma"),
        (("predict", "--law", "low_bit", "--set", "K=1", "--at", "N=1"), "no parameter 'K'"),
        (("predict", "--law", "chinchilla", "--at", "N=inf,D=1"), "must be finite"),
        (("predict", "--law", "chinchilla", "--set", "A=-1", "--at", "N=1,D=1"),
         "A is -1; law chinchilla needs a number above 0"),
        (("predict", "--law", "chinchilla", "--set", "alpha=nan", "--at", "N=1,D=1"),
         "alpha is nan; law chinchilla needs a finite number"),
        (("predict", "--law", "low_bit", "--at", "N=1e-300,D=1e300,P=1e-300"), "gives inf"),
        (("predict", "--law", "chinchilla", "--constants", "besiroglu", "--at", "N=1,D=1"),
         "paper:besiroglu"),
        (("predict", "--constants", "no.json", "--at", "N=1,D=1"), "no such file"),
        (("solve", "--law", "chinchilla", "--set", "alpha=0", "--set", "beta=0", "--at", "C=1"),
         "no answer"),
        (("solve", "--law", "chinchilla", "--set", "alpha=-1", "--at", "C=1e21"), "no answer"),
        (("solve", "--law", "encoder_decoder", "--set", "p_e=inf", "--at", "N=1e9"), "p_e is inf"),
        (("solve", "--law", "best_size", "--at", "m=1"), "use predict"),
        (("solve", "--law", "activation_attack", "--at", "d=512,V=1"), "at least 2"),
        (("fit", "x.csv", "--law", "chinchilla", "--out", "fit.txt"), ".png, .svg, .pdf"),
        (("fit", "x.csv", "--law", "chinchilla", "-c", "loss=L"), "has no column 'loss'"),
        (("fit", "x.csv", "--law", "chinchilla", "--delta", "-1"), "delta is -1"),
        (("fit", "x.csv", "--law", "chinchilla", "--bootstrap", "-1"), "x>=0"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_refused_with_what_is_allowed(
    arguments: tuple[str, ...], message: str
) -> None:
    done = run(*arguments)
    # An error of usage is printed by the command itself.
    usage = isinstance(done.exception, SystemExit) and done.exit_code == 2
    assert usage or isinstance(done.exception, LengthwiseError)
    assert message in (done.output.splitlines()[-1] if usage else str(done.exception))
