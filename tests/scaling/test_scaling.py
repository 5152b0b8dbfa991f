"""Scaling laws recover known constants, say how sure they are, and agree with their papers."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner

from lengthwise.cli.scaling import scaling
from lengthwise.scaling import (
    LAWS,
    Fit,
    Law,
    Objective,
    ScalingError,
    find_law,
    fit_law,
    predict,
)
from lengthwise.scaling.checks import RULE, Check, around, checks, table
from lengthwise.scaling.predict import solve
from lengthwise.scaling.vocabulary import budget, cheapest_vocabulary, width
from tests.scaling_runs import TRUE, Columns, runs

ROOT = Path(__file__).parents[2]
DOCS = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
PLAIN = Objective(math.inf)


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


@pytest.mark.parametrize("law", LAWS.usable().values(), ids=[*LAWS])
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


@pytest.mark.parametrize("law", LAWS.usable().values(), ids=[*LAWS])
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
    assert check.agrees(check.recompute()) != bool(check.remark)


@pytest.mark.parametrize(
    ("printed", "low", "high"),
    [("300", 250, 350), ("0.46", 0.455, 0.465), ("40e9", 3.5e10, 4.5e10), ("43e3", 42500, 43500),
     ("0.7", 0.65, 0.75), ("0.70", 0.695, 0.705), ("1.65e12", 1.645e12, 1.655e12),
     ("21.7", 21.65, 21.75), ("1690", 1685, 1695), ("2", 1.5, 2.5), ("4.0e10", 3.95e10, 4.05e10)],
)  # fmt: skip
def test_a_figure_stands_for_what_rounds_to_its_printed_digits(
    printed: str, low: float, high: float
) -> None:
    assert around(printed) == pytest.approx((low, high), rel=1e-12)
    check = Check("chinchilla", "a claim", printed, lambda: high)
    step = (high - low) / 100
    assert check.agrees(low + step) and check.agrees(high - step)
    assert not check.agrees(low - step) and not check.agrees(high + step)


def test_the_same_share_off_is_judged_by_the_digits_alone() -> None:
    """329.8 for 300 is within what one digit says; 2% off is not within what three say."""
    rough = Check("chinchilla", "a claim", "300", lambda: 329.8).row()
    sharp = Check("chinchilla", "a claim", "301", lambda: 307.0).row()
    assert rough[4:] == ("250 to 350", "329.8", "agrees")
    assert sharp[4:] == ("300.5 to 301.5", "307", "off by 2.0%")


def test_an_answer_from_rounded_constants_is_given_its_range() -> None:
    rounded = next(check for check in checks() if check.claim == "a, constants as printed")
    low, high = 0.275 / (0.275 + 0.345), 0.285 / (0.285 + 0.335)
    assert rounded.remark == f"constants as rounded give {low:.6g} to {high:.6g}"


def test_the_page_holds_the_table_that_the_command_prints() -> None:
    assert table() in DOCS
    assert " ".join(table().split("\n\n")[0].split()) == RULE
    assert CliRunner().invoke(scaling, ["check"]).output.strip() == table()


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


def test_a_few_resamples_are_told_to_be_few() -> None:
    law, columns = find_law("chinchilla"), runs(20)
    few = fit_law(law, columns, bootstrap=2).notes
    assert "2 resamples are few for 95% intervals: take 40 or more" in few
    assert not fit_law(law, columns, bootstrap=4, level=0.5).notes


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
