"""Scaling laws recover known constants, say how sure they are, and agree with their papers."""

from __future__ import annotations

import csv
import json
import math
import re
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner, Result

from lengthwise.cli.scaling import scaling
from lengthwise.errors import LengthwiseError
from lengthwise.scaling import (
    LAWS,
    Fit,
    Law,
    Objective,
    ScalingError,
    find_law,
    fit_law,
    predict,
    read_table,
)
from lengthwise.scaling.checks import Check, checks, table
from lengthwise.scaling.plot import check_plot
from lengthwise.scaling.predict import solve
from lengthwise.scaling.vocabulary import budget, cheapest_vocabulary, width

ROOT = Path(__file__).parents[1]
DOCS = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
TRUE = {"E": 1.8, "A": 480.0, "B": 2000.0, "alpha": 0.35, "beta": 0.37}
PLAIN = Objective(math.inf)
Columns = dict[str, np.ndarray]


def runs(rows: int = 60, noise: float = 3e-3, outliers: int = 0, seed: int = 1) -> Columns:
    """Runs that follow chinchilla with the constants TRUE, some of them diverged."""
    rng = np.random.default_rng(seed)
    size, tokens = 10 ** rng.uniform(7, 10, rows), 10 ** rng.uniform(9, 11.5, rows)
    columns = {"N": size, "D": tokens}
    loss = find_law("chinchilla").evaluate(columns, TRUE, log=False)
    loss = loss * np.exp(noise * rng.standard_normal(rows))
    loss[:outliers] *= rng.uniform(1.1, 1.5, outliers)
    return columns | {"L": loss}


def write_csv(path: Path, columns: Columns) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*(column.tolist() for column in columns.values()), strict=True))
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(scaling, [str(each) for each in arguments])


def example(law: Law) -> tuple[Columns, dict[str, float]]:
    """Inputs over a few decades, and values in the middle of the search's starts."""
    rng = np.random.default_rng(0)
    inputs = {name: 10 ** rng.uniform(6, 9, 80) for name in law.inputs}
    for name, low, high in (("P", 2, 4), ("L", 1.5, 8), ("V", 4e3, 1e5), ("d", 256, 4096),
                            ("M", 5, 600), ("a", 1, 30), ("m", 1e4, 1e8)):  # fmt: skip
        if name in inputs:
            inputs[name] = rng.uniform(low, high, 80)
    if "B_star" in law.names or "S_c" in law.names:
        inputs |= {name: 10 ** rng.uniform(3.5, 6, 80) for name in ("S", "S_min", "B")
                   if name in inputs}  # fmt: skip
    known = law.published().values
    if set(known) == set(law.names):
        return inputs, dict(known)
    rest = {"alpha": 8.0, "gamma": 0.3, "L_inf": 0.9}
    return inputs, {name: known.get(name, rest.get(name, 1.0)) for name in law.names}


@pytest.mark.parametrize("law", LAWS.values(), ids=[*LAWS])
def test_every_law_recovers_the_constants_it_was_made_with(law: Law) -> None:
    inputs, values = example(law)
    made = law.evaluate(inputs, values, log=False)
    found = fit_law(law, inputs | {law.output[0]: made}, bootstrap=0)
    again = law.evaluate(inputs, found.values, log=False)
    assert np.allclose(again, made, rtol=1e-4)
    exponents = [p.name for p in law.parameters if not p.positive]
    assert [found.values[n] for n in exponents] == pytest.approx(
        [values[n] for n in exponents], rel=0.02
    )


@pytest.mark.parametrize("law", LAWS.values(), ids=[*LAWS])
def test_every_law_says_its_equation_units_and_origin(law: Law) -> None:
    assert "=" in law.equation and law.paper and law.output[1]
    assert all(law.inputs.values())
    for constants in law.constants.values():
        assert constants.origin and set(constants.values) <= set(law.names)
        assert set(constants.ranges) <= set(law.inputs)
    assert f"`{law.name}`" in DOCS and law.equation in DOCS


def test_outliers_move_plain_squares_and_not_the_robust_fit() -> None:
    law, columns = find_law("chinchilla"), runs(outliers=6)
    robust = fit_law(law, columns, bootstrap=0).values
    squares = fit_law(law, columns, PLAIN, bootstrap=0).values
    target = {"N": np.array([7e10]), "D": np.array([1.4e12])}
    truth, by_robust, by_squares = (
        float(law.evaluate(target, values, log=False)[0]) for values in (TRUE, robust, squares)
    )
    assert abs(by_robust / truth - 1) < 0.01
    assert abs(by_robust - truth) < abs(by_squares - truth) / 3
    assert abs(robust["E"] - TRUE["E"]) < abs(squares["E"] - TRUE["E"]) / 2


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    law = find_law("learning_curve")
    values = {"alpha": 20.0, "beta_g": -0.3, "gamma": 0.4}
    m = np.geomspace(1e3, 1e7, 30)
    hits = []
    for seed in range(10):
        noise = np.random.default_rng(seed).standard_normal(30)
        error = law.evaluate({"m": m}, values, log=False) * np.exp(5e-3 * noise)
        found = fit_law(law, {"m": m, "error": error}, Objective(1e-2), bootstrap=25, level=0.9)
        low, high = found.intervals["beta_g"]
        hits.append(low <= values["beta_g"] <= high)
    assert sum(hits) >= 7


def test_the_same_seed_gives_the_same_intervals_and_progress_reaches_its_end() -> None:
    law, seen = find_law("converged"), []
    columns = {"N": np.geomspace(1e6, 1e9, 8), "L": np.array([6, 5.2, 4.7, 4.1, 3.8, 3.3, 3, 2.7])}
    fits = [
        fit_law(law, columns, bootstrap=20, seed=s, progress=lambda *a: seen.append(a))
        for s in (3, 3, 4)
    ]
    assert fits[0] == fits[1] and fits[0].intervals != fits[2].intervals
    assert seen[19] == (20, 20)


@pytest.mark.parametrize("check", checks(), ids=lambda c: f"{c.law}: {c.claim}")
def test_figures_that_follow_from_printed_constants_are_recomputed(check: Check) -> None:
    assert check.agrees != bool(check.remark)


def test_the_page_holds_the_table_that_the_command_prints() -> None:
    assert table() in DOCS
    assert run("check").output.strip() == table()


def test_over_training_is_chinchilla_with_equal_exponents() -> None:
    p = find_law("over_training").published().values
    eta = p["eta"]
    same = {"E": p["E"], "A": p["a"] * 6**-eta, "B": p["b"] * 6**-eta,
            "alpha": 2 * eta, "beta": 2 * eta}  # fmt: skip
    size, multiplier = np.geomspace(1e7, 1e10, 7), np.geomspace(5, 640, 7)
    by_ray = find_law("over_training").evaluate({"N": size, "M": multiplier}, p, log=False)
    at = {"N": size, "D": size * multiplier}
    assert np.allclose(by_ray, find_law("chinchilla").evaluate(at, same, log=False), rtol=1e-12)


def test_the_trajectory_is_a_root_and_reaches_both_limits() -> None:
    p = dict(find_law("trajectory").published().values)
    grid = np.meshgrid(np.geomspace(1e6, 1e11, 5), np.geomspace(1e3, 1e6, 5), [1e4, 1e6, 1e15])
    size, steps, batch = (axis.ravel() for axis in grid)
    loss = find_law("trajectory").evaluate({"N": size, "S": steps, "B": batch}, p, log=False)
    critical = p["B_star"] / loss ** (1 / p["alpha_B"])
    right = (p["N_c"] / size) ** p["alpha_N"]
    right += (p["S_c"] * (1 + critical / batch) / steps) ** p["alpha_S"]
    assert np.max(np.abs(right - loss)) < 1e-9
    q = {name: p[name] for name in find_law("trajectory_min").names}
    limit = find_law("trajectory_min").evaluate({"N": size, "S_min": steps}, q, log=False)
    assert np.allclose(loss[batch == 1e15], limit[batch == 1e15], rtol=1e-6)


def test_a_critical_batch_takes_twice_the_fewest_steps_and_tokens() -> None:
    p = find_law("trajectory").published().values
    size, fewest = np.array([1e8]), np.array([2e4])
    q = {name: p[name] for name in find_law("trajectory_min").names}
    loss = find_law("trajectory_min").evaluate({"N": size, "S_min": fewest}, q, log=False)
    critical = find_law("critical_batch").evaluate(
        {"L": loss}, {name: p[name] for name in ("B_star", "alpha_B")}, log=False
    )
    at = {"N": size, "S": 2 * fewest, "B": critical}
    assert find_law("trajectory").evaluate(at, p, log=False) == pytest.approx(loss, rel=1e-9)


@pytest.mark.parametrize(
    ("name", "at", "free", "bound"),
    [
        ("chinchilla", {"C": 1e21}, "N", lambda n: {"N": n, "D": 1e21 / 6 / n}),
        ("over_training", {"C": 1e21}, "M", lambda m: {"N": np.sqrt(1e21 / 6 / m), "M": m}),
        ("vocabulary", {"Nnv": 7e9}, "V", lambda v: {
            "Nnv": np.full_like(v, 7e9), "V": v, "d": np.full_like(v, width(7e9)),
            "D": budget(7e9) / 6 / (7e9 + v * width(7e9))}),
    ],
)  # fmt: skip
def test_an_optimum_is_where_a_fine_grid_has_its_least_loss(name, at, free, bound) -> None:
    law = find_law(name)
    values = law.published().values
    best = solve(law, values, at)[free]
    grid = best * np.geomspace(0.5, 2, 4001)
    loss = law.evaluate(bound(grid), values, log=False)
    assert grid[np.argmin(loss)] == pytest.approx(best, rel=1e-3)


def test_the_split_of_encoder_and_decoder_is_where_a_grid_is_least() -> None:
    law = find_law("encoder_decoder")
    values = {"alpha": 3.0, "p_e": 0.18, "p_d": 0.31, "L_inf": 0.9}
    found = solve(law, values, {"N": 3e8})
    encoder = np.linspace(0.01, 0.99, 9801) * 3e8
    loss = law.evaluate({"N_e": encoder, "N_d": 3e8 - encoder}, values, log=False)
    assert encoder[np.argmin(loss)] == pytest.approx(found["N_e"], rel=1e-3)
    assert found["N_e"] / 3e8 == pytest.approx(0.18 / 0.49)


def test_quantisation_costs_nothing_for_large_models_few_tokens_or_many_bits() -> None:
    values = find_law("low_bit").published().values
    base = {"N": 1e9, "D": 1e12, "P": 4.0}
    for change in ({"N": 1e40}, {"D": 1.0}, {"P": 64.0}):
        at = {k: np.array([v]) for k, v in (base | change).items()}
        assert find_law("low_bit").evaluate(at, values, log=False)[0] < 1e-4


def test_the_cheapest_vocabulary_needs_the_fewest_operations_for_a_text() -> None:
    from lengthwise.scaling.vocabulary import tokens_per_character

    best = cheapest_vocabulary(302e6, 1024)
    grid = best * np.geomspace(0.5, 2, 2001)
    cost = (302e6 + 1024 * grid) * tokens_per_character(grid)
    assert grid[np.argmin(cost)] == pytest.approx(best, rel=1e-3)


def test_predictions_carry_intervals_and_say_where_they_extrapolate() -> None:
    law, columns = find_law("chinchilla"), runs(noise=1e-3)
    fitted = fit_law(law, columns, bootstrap=25)
    inside = predict(law, fitted.values, {"N": 1e9, "D": 1e10}, fit=fitted)
    outside = predict(law, fitted.values, {"N": 1e13, "D": 1e7}, fit=fitted)
    assert inside.interval is not None and inside.warnings == ()
    assert inside.interval[0] <= inside.value <= inside.interval[1]
    assert "times the largest fitted" in outside.warnings[0]
    assert "times below the smallest fitted" in outside.warnings[1]
    assert "not known" in predict(law, TRUE, {"N": 1e9, "D": 1e10}).warnings[0]


def test_a_fit_reads_back_as_it_was_saved(tmp_path: Path) -> None:
    path = tmp_path / "fit.json"
    fitted = fit_law(find_law("chinchilla"), runs(), PLAIN, bootstrap=5)
    path.write_text(fitted.to_json())
    assert Fit.read(path) == fitted
    path.write_text('{"law": "chinchilla"}')
    with pytest.raises(ScalingError, match="not a fit of lengthwise"):
        Fit.read(path)


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


def test_what_a_log_says_of_its_steps_cost_is_no_row(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    lines = [{"kind": "evaluation", "D": 10, "error": 0.5}, {"kind": "cost", "error": 0.02}]
    log.write_text("\n".join(map(json.dumps, lines)))
    found = read_table([log], find_law("learning_curve"), {"m": "D"}, last=True)
    assert found.columns["error"].tolist() == [0.5]


def test_a_few_resamples_are_told_to_be_few() -> None:
    law, columns = find_law("chinchilla"), runs(20)
    few = fit_law(law, columns, bootstrap=2).notes
    assert "2 resamples are few for 95% intervals: take 40 or more" in few
    assert not fit_law(law, columns, bootstrap=4, level=0.5).notes


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


def test_rows_that_cannot_determine_the_law_are_refused() -> None:
    law, columns = find_law("chinchilla"), runs(5)
    with pytest.raises(ScalingError, match="5 parameters .* needs more rows than that; there are"):
        fit_law(law, columns)
    with pytest.raises(ScalingError, match="L is 2.5 in every row"):
        fit_law(law, runs() | {"L": np.full(60, 2.5)})
    with pytest.raises(ScalingError, match="D is 1e.09 in every row"):
        fit_law(law, runs() | {"D": np.full(60, 1e9)})
    with pytest.raises(ScalingError, match="residuals are linear"):
        fit_law(find_law("downstream"), columns, Objective(log=True))
    with pytest.raises(ScalingError, match="delta is 0"):
        Objective(0.0)


def test_rows_on_one_ray_are_told_to_leave_parameters_undetermined() -> None:
    size = np.geomspace(1e7, 1e10, 12)
    same = TRUE | {"beta": 0.35}
    loss = find_law("chinchilla").evaluate({"N": size, "D": 20 * size}, same, log=False)
    columns = {"N": size, "D": 20 * size, "L": loss}
    found = fit_law(find_law("chinchilla"), columns, bootstrap=0)
    assert any("hardly tell the parameters apart" in note for note in found.notes)


def test_a_search_that_does_not_converge_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    from lengthwise.scaling.fit import _Problem

    stopped = SimpleNamespace(x=np.zeros(5), cost=1.0, success=False)
    monkeypatch.setattr(_Problem, "descend", lambda *a, **k: stopped)
    with pytest.raises(ScalingError, match="no search .* converged from"):
        fit_law(find_law("chinchilla"), runs())


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
        (("fit", "x.csv", "--law", "chinchilla", "--out", "fit.txt"), "ends in .pdf, .png, .svg"),
        (("fit", "x.csv", "--law", "chinchilla", "-c", "loss=L"), "has no column 'loss'"),
        (("fit", "x.csv", "--law", "chinchilla", "--delta", "-1"), "delta is -1"),
        (("fit", "x.csv", "--law", "chinchilla", "--bootstrap", "-1"), "0 or more"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_refused_with_what_is_allowed(
    arguments: tuple[str, ...], message: str
) -> None:
    done = run(*arguments)
    assert isinstance(done.exception, ScalingError)
    assert message in str(done.exception)
