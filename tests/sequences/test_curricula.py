"""Curricula: constant tokens, the same bucket everywhere, nothing twice, entered anywhere."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings, strategies as st

from lengthwise.cli.curriculum import curriculum as command, parse_buckets
from lengthwise.errors import LengthwiseError
from lengthwise.sequences.curricula import NAMES, Curriculum
from lengthwise.sequences.curriculum_picture import plot
from lengthwise.sequences.upsampling import Upsampled

TOKENS = 2048
BUCKETS = {128: 400, 256: 203, 512: 101, 1024: 50}
names = st.sampled_from(NAMES)


@given(
    st.dictionaries(st.integers(1, 600), st.integers(0, 3000), min_size=1, max_size=6),
    st.integers(-5, 60_000), st.integers(1, 40), st.integers(1, 8),
)  # fmt: skip
@settings(max_examples=200, deadline=None)
def test_what_is_suggested_is_accepted(buckets, tokens, cycles, world):
    """Follows at most one suggestion of each kind, and comes out with draws for every rank."""
    followed = []
    while True:
        try:
            schedule = Curriculum(buckets, tokens, cycles=cycles)
            for length in schedule.batches:
                schedule.draw(0, int(np.argmax(schedule.lengths(0) == length)), 0, world)
            break
        except LengthwiseError as error:
            said = str(error)
        if found := re.search(r"the nearest tokens_per_step that does: (\d+)$", said):
            followed.append("ranks" if "ranks" in said else "tokens")
            tokens = int(found[1])
        elif found := re.search(r"; give 1 to (\d+)$", said):
            followed.append("cycles")
            cycles = int(found[1])
        else:
            assert "no number does" in said
            break
    assert len(set(followed)) == len(followed)


@pytest.mark.parametrize(
    "words",
    [
        ["--buckets", "256=99999999999,512=400", "--tokens-per-step", "65536"],
        ["--buckets", "256=99999", "--tokens-per-step", "256", "--epochs", "99999999"],
        [
            "--buckets",
            "256=99999999999999999999999",
            "--tokens-per-step",
            "99999999999999999999999",
        ],
        ["--buckets", "99999999999999999999=5", "--tokens-per-step", "99999999999999999999"],
        ["--buckets", "256=1000", "--tokens-per-step", "256", "--cycles", "99999999999"],
        [
            "--buckets",
            ",".join(f"{1 << n}=9" for n in range(70)),
            "--tokens-per-step",
            str(1 << 70),
        ],
    ],
)
def test_numbers_beyond_any_machine_are_one_line_before_any_work(words: list[str]) -> None:
    try:
        result = CliRunner().invoke(command, words, catch_exceptions=False)
        # Beyond what any option takes: an error of usage, whose last line is told.
        assert result.exit_code == 2 and "is more than" in result.output
        said = result.output.splitlines()[-1]
    except LengthwiseError as error:
        said = str(error)
    assert "\n" not in said
    if found := re.search(r"that does: (\d+)$|give --epochs (\d+) or fewer$", said):
        option = "--tokens-per-step" if found[1] else "--epochs"
        words[words.index(option) + 1] = str(found[1] or found[2])
        if found[1]:  # the other takes its time
            assert Curriculum(parse_buckets(words[1]), int(found[1]), cycles=8).steps_per_epoch > 8


@given(
    st.dictionaries(st.sampled_from([32, 64, 128, 256]), st.integers(0, 90), min_size=1),
    names, st.integers(1, 5), st.integers(0, 9), st.sampled_from([1, 2]),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_every_row_at_most_once_and_the_left_out_are_counted(buckets, name, cycles, seed, world):
    steps = sum(rows // (512 // n) for n, rows in buckets.items())
    if steps < cycles:
        with pytest.raises(LengthwiseError):
            Curriculum(buckets, 512, name, cycles, seed)
        return
    schedule = Curriculum(buckets, 512, name, cycles, seed)
    read: dict[int, list[int]] = {n: [] for n in buckets}
    for step in range(schedule.steps_per_epoch):
        draws = [schedule.draw(0, step, rank, world) for rank in range(world)]
        assert len({draw.length for draw in draws}) == 1
        assert len({len(draw.rows) for draw in draws}) == 1
        assert sum(len(draw.rows) * draw.length for draw in draws) == 512
        for draw in draws:
            read[draw.length].extend(draw.rows.tolist())
    for length, rows in read.items():
        assert len(set(rows)) == len(rows)
        assert len(rows) + schedule.left_out[length] == buckets[length]
        assert all(0 <= row < buckets[length] for row in rows)


@pytest.mark.parametrize("name", NAMES)
def test_a_resumed_run_reads_what_an_uninterrupted_one_reads(name: str) -> None:
    whole = list(Curriculum(BUCKETS, TOKENS, name, 4, seed=3).draws(1))
    resumed = list(Curriculum(BUCKETS, TOKENS, name, 4, seed=3).draws(1, first=60))
    assert [d.length for d in whole[60:]] == [d.length for d in resumed]
    assert all((a.rows == b.rows).all() for a, b in zip(whole[60:], resumed, strict=True))


def test_seed_and_epoch_change_lengths_and_rows() -> None:
    one, two = (Curriculum(BUCKETS, TOKENS, "uniform", seed=seed) for seed in (0, 1))
    assert (one.lengths(0) != two.lengths(0)).any()
    assert (one.lengths(0) != one.lengths(1)).any()
    assert (one.rows(0, 0) != one.rows(1, 0)[: len(one.rows(0, 0))]).any()


def test_each_cycle_holds_an_equal_part_of_every_bucket() -> None:
    schedule = Curriculum({64: 320, 128: 160, 256: 80}, 512, "grow-p2", cycles=8)
    for cycle in np.split(schedule.lengths(0), 8):
        assert {int(n): int((cycle == n).sum()) for n in set(cycle)} == {64: 5, 128: 5, 256: 5}


def test_grow_ends_long_and_shrink_ends_short() -> None:
    buckets = {n: 64 * 512 // n for n in (32, 64, 128, 256, 512)}
    ends = {}
    for name in NAMES:
        lengths = Curriculum(buckets, 512, name).lengths(0)
        ends[name] = lengths[-40:].mean() / lengths[:40].mean()
    assert ends["grow-p100"] > ends["grow-p2"] > ends["grow-linear"] > 1.1
    assert 0.6 < ends["uniform"] < 1.6
    assert ends["shrink-p100"] < 0.2


def test_odds_are_the_paper_s_weights_for_its_dclm_buckets() -> None:
    batches = {256: 46, 512: 78, 1024: 97, 2048: 82, 4096: 67, 8192: 60}
    schedule = Curriculum({n: k * (65536 // n) for n, k in batches.items()}, 65536, "grow-p2")
    assert [int(each) for each in schedule.odds.values()] == [1472, 1248, 776, 328, 134, 60]


def test_first_draws_come_at_the_odds() -> None:
    schedule = [Curriculum({64: 800, 128: 400}, 128, "grow-p2", seed=s) for s in range(2000)]
    short = np.mean([each.lengths(0)[0] == 64 for each in schedule])
    assert abs(short - 2 / 3) < 0.04


def test_an_empty_bucket_is_left_out_with_its_count() -> None:
    schedule = Curriculum({64: 100, 128: 0, 256: 1}, 512)
    assert set(schedule.batches) == {64}
    assert schedule.left_out == {64: 4, 128: 0, 256: 1}


def test_a_mixture_repeats_rows_evenly() -> None:
    schedule = Curriculum({64: 16, 128: 8}, 512, mixture={64: 3 * 1024, 128: 512})
    rows = np.concatenate([d.rows for d in schedule.draws(0) if d.length == 64])
    assert (np.bincount(rows, minlength=16) == 3).all()
    assert schedule.batches == {64: 6, 128: 1}


def test_mean_context_equals_a_count_of_earlier_tokens() -> None:
    schedule = Curriculum({4: 6, 8: 3}, 8)
    lengths = [d.length for d in schedule.draws(0) for _ in d.rows]
    earlier = [place for length in lengths for place in range(length)]
    assert schedule.mean_context == pytest.approx(np.mean(earlier))
    assert schedule.mean_length == pytest.approx(np.mean(lengths))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Curriculum(BUCKETS, TOKENS, "grow-p3"), "did you mean 'grow-p2'"),
        (lambda: Curriculum(BUCKETS, 1000), "the nearest tokens_per_step that does: 1024"),
        (lambda: Curriculum({64: 1}, 512), "largest has 64 tokens"),
        (lambda: Curriculum(BUCKETS, TOKENS, cycles=900), "100 steps"),
        (lambda: Curriculum(BUCKETS, TOKENS).draw(0, 0, 0, 3), "that does: 3072"),
        (lambda: Curriculum(BUCKETS, TOKENS).draw(0, 100), "no step 100"),
        (lambda: Curriculum(BUCKETS, TOKENS, mixture={128: 10**9}), "at most 5 passes"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_nearest(make, says: str) -> None:
    with pytest.raises(LengthwiseError, match=says):
        make()


def _upsampled(share: float = 0.2, **weights: float) -> Upsampled:
    base = Curriculum({64: 1600, 128: 1600, 256: 800}, 1024, "grow-p2", cycles=4)
    domains = {"code": {64: 50, 128: 40}, "math": {64: 30, 128: 20, 256: 9}}
    return Upsampled(base, 2, domains, weights or {"code": 0.2, "math": 0.1}, share)


def test_domains_get_their_share_of_the_last_stretch_and_nothing_before() -> None:
    run = _upsampled()
    tokens = {"base": 0, "code": 0, "math": 0}
    for number in range(2 * run.base.steps_per_epoch):
        draw = run.draw(*divmod(number, run.base.steps_per_epoch))
        rows = {"base": draw.rows, **draw.upsampled}
        assert sum(map(len, rows.values())) * draw.length == 1024
        if number < run.first:
            assert not draw.upsampled
            continue
        for name, each in rows.items():
            tokens[name] += len(each) * draw.length
    total = sum(tokens.values())
    assert tokens["code"] / total == pytest.approx(0.2, abs=0.01)
    assert tokens["math"] / total == pytest.approx(0.1, abs=0.01)
    assert total == 1024 * round(0.2 * 2 * run.base.steps_per_epoch)


def test_repeats_of_a_small_domain_are_even_and_reported() -> None:
    run = _upsampled()
    read = np.zeros(50, int)
    for number in range(run.first, 2 * run.base.steps_per_epoch):
        draw = run.draw(*divmod(number, run.base.steps_per_epoch))
        if draw.length == 64 and "code" in draw.upsampled:
            read += np.bincount(draw.upsampled["code"], minlength=50)
    assert read.max() - read.min() <= 1
    assert read.mean() == pytest.approx(run.passes("code")[64])


def test_ranks_share_an_upsampled_step_evenly() -> None:
    run = _upsampled()
    for number in range(run.first, run.first + 40):
        epoch, step = divmod(number, run.base.steps_per_epoch)
        draws = [run.draw(epoch, step, rank, 4) for rank in range(4)]
        sizes = {len(d.rows) + sum(map(len, d.upsampled.values())) for d in draws}
        assert len(sizes) == 1
        whole = run.draw(epoch, step)
        for name, rows in whole.upsampled.items():
            split = [d.upsampled[name] for d in draws if name in d.upsampled]
            assert sorted(np.concatenate(split).tolist()) == sorted(rows.tolist())


def test_weights_that_the_domains_cannot_fill_are_refused() -> None:
    with pytest.raises(LengthwiseError, match="divide the weights by"):
        _upsampled(code=0.9)


@pytest.mark.parametrize("weight", [0.6, 0.734, 0.9, 1.0])
def test_weights_divided_as_suggested_are_taken(weight: float) -> None:
    try:
        _upsampled(code=weight)
    except LengthwiseError as error:
        found = re.search(r"divide the weights by (\S+) at least$", str(error))
        assert found
        assert float(_upsampled(code=weight / float(found[1])).weights["code"]) < weight


def test_the_command_draws_a_picture_and_prints_one_json_line(tmp_path: Path) -> None:
    picture = tmp_path / "lengths.png"
    arguments = ["--buckets", "128=400,256=203", "--tokens-per-step", "2048", "--cycles", "2"]
    result = CliRunner().invoke(command, [*arguments, "--out", str(picture), "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.output)
    assert len(found["lengths"]) == found["steps_per_epoch"] == 50
    assert found["left_out_rows"] == {"128": 0, "256": 3}
    assert picture.read_bytes()[:4] == b"\x89PNG"
    assert [each.name for each in tmp_path.iterdir()] == ["lengths.png"]


def test_the_command_reads_the_counts_of_a_built_data_set(tmp_path: Path) -> None:
    manifest = {"buckets": {"07": {"inputs": 128, "rows": 400, "tokens": 51200}}}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    arguments = ["--data", str(tmp_path), "--tokens-per-step", "2048", "--json"]
    result = CliRunner().invoke(command, arguments)
    assert json.loads(result.output)["steps"] == {"128": 25}
    (tmp_path / "manifest.json").write_text(json.dumps({"buckets": {}}))
    with pytest.raises(LengthwiseError, match="decompose"):
        CliRunner().invoke(command, arguments, catch_exceptions=False)


def test_a_picture_of_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LengthwiseError, match=".png"):
        plot(Curriculum(BUCKETS, TOKENS), tmp_path / "lengths.txt")


@given(names, st.integers(1, 200), st.integers(0, 9))
@settings(max_examples=40, deadline=None)
def test_a_short_run_has_the_lengths_of_a_whole_epoch_in_their_shares(name, steps, seed):
    whole = Curriculum(BUCKETS, TOKENS, name, 1, seed)
    short = whole.shortened(steps)
    if steps >= whole.steps_per_epoch:
        assert short is whole
        return
    assert short.steps_per_epoch == steps
    share = steps / whole.steps_per_epoch
    assert all(abs(short.batches.get(n, 0) - share * k) <= 1 for n, k in whole.batches.items())


def test_a_short_run_ends_with_the_longest_rows_as_its_epoch_would():
    whole = Curriculum(BUCKETS, TOKENS, "grow-p100", 2)
    assert whole.lengths(0)[: whole.steps_per_epoch // 4].max() < 1024
    short = whole.shortened(whole.steps_per_epoch // 4)
    assert short.lengths(0)[-1] == 1024


def test_empty_buckets_of_a_data_set_ask_nothing_of_a_step(tmp_path: Path) -> None:
    buckets = {f"{k:02d}": {"inputs": 1 << k, "rows": 40 if k < 7 else 0} for k in range(5, 13)}
    (tmp_path / "manifest.json").write_text(json.dumps({"buckets": buckets}))
    words = ["--data", str(tmp_path), "--tokens-per-step", "128", "--cycles", "2"]
    shown = CliRunner().invoke(command, words, catch_exceptions=False)
    assert "30 steps of 128 tokens an epoch" in shown.output


def test_a_length_given_twice_is_refused() -> None:
    with pytest.raises(LengthwiseError, match="the length 256 is given twice"):
        parse_buckets("256=10,256=20")
