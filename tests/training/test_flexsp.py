"""The planner: as good as trying everything, never worse than one size, within memory."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, settings, strategies as st

from lengthwise.cli.plan import plan as command
from lengthwise.errors import LengthwiseError
from lengthwise.training.flexsp import GAP, best_static, plan, plan_micro_batch, static_plan
from lengthwise.training.flexsp_costs import MIB, Costs, gpt_on_a100, read_costs
from lengthwise.training.flexsp_groups import blast, bucket, spread

TINY = Costs(
    quadratic_ms=2e-4, linear_ms=0.01, fixed_ms=3.0, bytes_per_token=4e6,
    bandwidth={2: 100.0, 4: 60.0, 8: 5.0}, token_bytes=1.0, model_bytes=20.0, memory_bytes=420.0,
)  # fmt: skip
batches = st.lists(st.one_of(st.integers(1, 120), st.integers(300, 1600)), min_size=1, max_size=6)


def _everything(lengths: list[int], devices: int, costs: Costs) -> float:
    """The least time of one micro-batch, over all partitions of sequences into sized groups."""
    sizes = costs.sizes(devices)
    everyone = (1 << len(lengths)) - 1

    @cache
    def alone(members: int, size: int) -> float:
        chosen = [n for i, n in enumerate(lengths) if members >> i & 1]
        if sum(chosen) > costs.capacity * size:
            return float("inf")
        return costs.fixed_ms + sum(costs.time(n, size) for n in chosen)

    @cache
    def best(left: int, free: int) -> float:
        if not left:
            return 0.0
        first, found = left & -left, float("inf")
        members = left
        while members:
            if members & first:
                for size in (p for p in sizes if p <= free):
                    rest = best(left & ~members, free - size)
                    found = min(found, max(alone(members, size), rest))
            members = (members - 1) & left
        return found

    return best(everyone, devices)


@given(batches, st.sampled_from([4, 6, 8]))
@settings(max_examples=60, deadline=None)
def test_the_program_equals_trying_everything(lengths: list[int], devices: int) -> None:
    if max(lengths) > TINY.capacity * max(TINY.sizes(devices)):
        return
    found = plan_micro_batch(range(len(lengths)), lengths, devices, TINY, sizes=TINY.sizes(devices))
    truth = _everything(lengths, devices, TINY)
    if found is None:
        assert truth == float("inf")
    else:
        assert truth * (1 - 1e-9) <= found.time_ms <= truth / (1 - GAP) * (1 + 1e-6)


@given(st.lists(st.integers(1, 3000), min_size=1, max_size=30), st.integers(1, 4))
@settings(max_examples=25, deadline=None)
def test_every_sequence_once_within_memory_and_devices(lengths: list[int], buckets: int) -> None:
    found = plan(lengths, 8, TINY, buckets=buckets, tries=2, time_limit_s=0.3)
    seen = [i for m in found.micro_batches for group in m.groups for i in group.sequences]
    assert sorted(seen) == list(range(len(lengths)))
    for micro in found.micro_batches:
        assert sum(group.size for group in micro.groups) <= 8
        for group in micro.groups:
            assert group.tokens == sum(lengths[i] for i in group.sequences)
            assert group.memory_bytes <= TINY.memory_bytes
            time = TINY.fixed_ms + sum(TINY.time(lengths[i], group.size) for i in group.sequences)
            assert group.time_ms == pytest.approx(time)


@given(st.lists(st.integers(1, 3000), min_size=1, max_size=30))
@settings(max_examples=25, deadline=None)
def test_one_size_for_all_is_never_faster(lengths: list[int]) -> None:
    ours = plan(lengths, 8, TINY, sizes=(1, 2, 4, 8), tries=2, time_limit_s=0.2).time_ms
    static = [static_plan(lengths, 8, TINY, size, tries=2) for size in (1, 2, 4, 8)]
    assert all(ours <= each.time_ms * (1 + 1e-9) for each in static if each is not None)


def test_a_long_tail_gains_and_equal_lengths_do_not() -> None:
    costs = gpt_on_a100("7b", 16, forgetting=12)
    varied = [60_000, 20_000, 9_000, *[800] * 80]
    gain = {}
    for name, lengths in {"varied": varied, "equal": [4_000] * 16}.items():
        static = best_static(lengths, 16, costs)
        gain[name] = static.time_ms / plan(lengths, 16, costs, time_limit_s=2).time_ms
    assert gain["varied"] > 1.1
    assert gain["equal"] == pytest.approx(1.0, abs=0.01)


def test_the_paper_s_example_comes_out_as_in_the_paper() -> None:
    """One sequence of 100k and four of 48k on 64 devices: a group of 32 and four of 8."""
    found = plan([100_000, *[48_000] * 4], 64, gpt_on_a100(context=100_000))
    assert len(found.micro_batches) == 1
    assert sorted(group.size for group in found.micro_batches[0].groups) == [8, 8, 8, 8, 32]


@pytest.mark.parametrize(
    ("size", "devices", "forgetting", "mib"),
    [
        ("7b", 16, None, 2.668764648),
        ("7b", 8, None, 2.668764648),
        ("7b", 32, None, 4.480441895),
        ("7b", 64, None, 4.480441895),
        ("7b", 64, 32, 2.668764648),
        ("7b", 16, 12, 4.480441895),
        ("7b", 16, 22, (2.668764648 + 4.480441895) / 2),
        ("13b", 16, None, 4.220439453),
        ("30b", 64, 60, 3.417381836),
    ],
)
def test_a_token_takes_what_the_layers_do_not_compute_again(
    size: str, devices: int, forgetting: int | None, mib: float
) -> None:
    costs = gpt_on_a100(size, devices, 80, forgetting=forgetting)
    assert costs.token_bytes / MIB == pytest.approx(mib, rel=1e-9)


@pytest.mark.parametrize(
    ("size", "context", "billions"),
    [("7b", 192_000, 7.1174468994140625), ("7b", 384_000, 7.8498687744140625),
     ("13b", 384_000, 14.03158187866211), ("30b", 384_000, 32.71532440185547)],
)  # fmt: skip
def test_positions_are_parameters_and_states_are_shared_by_all_devices(
    size: str, context: int, billions: float
) -> None:
    for devices in (32, 64):
        costs = gpt_on_a100(size, devices, context=context)
        assert costs.model_bytes * devices / 16 / 2**30 == pytest.approx(billions, rel=1e-9)
        assert costs.memory_bytes == 28 * 2**30


def test_groups_of_one_are_made_only_where_they_are_asked_for() -> None:
    lengths = [40] * 8
    usual = plan(lengths, 8, TINY)
    asked = plan(lengths, 8, TINY, sizes=(1, 2, 4, 8))
    assert min(g.size for m in usual.micro_batches for g in m.groups) == 2
    assert {g.size for m in asked.micro_batches for g in m.groups} == {1}
    assert best_static(lengths, 8, TINY).micro_batches[0].groups[0].size > 1
    alone = plan([40, 50], 1, TINY)
    assert {g.size for m in alone.micro_batches for g in m.groups} == {1}


def test_sizes_are_mixed_where_memory_allows_no_single_one() -> None:
    found = plan_micro_batch(range(3), [300, 300, 1001], 6, TINY, sizes=TINY.sizes(6))
    assert found is not None and sorted(group.size for group in found.groups) == [2, 4]
    bare = plan_micro_batch(range(2), [1600, 801], 6, TINY, sizes=TINY.sizes(6))
    assert bare is None


def test_a_plan_says_what_it_could_not_prove() -> None:
    costs = gpt_on_a100("7b", 16)
    found = plan([60_000, 20_000, 9_000, *range(500, 2500, 50)], 16, costs, time_limit_s=1)
    assert 0 <= found.gap < 0.5
    assert {each.solver for each in found.micro_batches} <= {"milp", "greedy", "static"}


def test_a_sequence_that_fits_no_group_is_named_with_its_memory() -> None:
    with pytest.raises(LengthwiseError, match="3,201 tokens fits no group.*8 devices"):
        plan([5, 3201], 8, TINY)
    assert plan([5, 3200], 8, TINY).micro_batches


def test_blasting_is_the_best_of_all_cuts_of_the_sorted_batch() -> None:
    lengths = [90, 3, 17, 41, 8, 25, 60]
    ordered = sorted(lengths, reverse=True)

    def least(start: int, parts: int) -> int:
        if parts == 1:
            return sum(ordered[start:])
        cuts = range(start + 1, len(ordered))
        return min((max(sum(ordered[start:c]), least(c, parts - 1)) for c in cuts),
                   default=sum(ordered[start:]))  # fmt: skip

    for parts in range(1, 6):
        found = blast(lengths, parts)
        assert sorted(i for part in found for i in part) == list(range(len(lengths)))
        assert max(sum(lengths[i] for i in part) for part in found) == least(0, parts)


@given(st.lists(st.integers(1, 60), min_size=1, max_size=12), st.integers(1, 6))
@settings(max_examples=60, deadline=None)
def test_buckets_are_the_ones_with_least_padding(lengths: list[int], count: int) -> None:
    from itertools import combinations

    def padding(bounds: list[int]) -> int:
        return sum(min(b for b in bounds if b >= n) - n for n in lengths)

    bounds = bucket(lengths, count)
    values = sorted(set(lengths))
    others = combinations(values[:-1], min(count, len(values)) - 1)
    assert len(bounds) <= count and all(a < b for a, b in pairwise(bounds))
    assert padding(bounds) == min(padding([*each, values[-1]]) for each in others)


def test_groups_of_one_size_are_refused_where_memory_forbids() -> None:
    assert spread([0, 1, 2], [300, 300, 300], [1, 1], TINY) is None
    groups = spread([0, 1, 2, 3], [300, 300, 100, 100], [1, 1], TINY)
    assert groups is not None and sorted(group.tokens for group in groups) == [400, 400]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: plan([], 8, TINY), "needs sequences"),
        (lambda: plan([3], 8, TINY, sizes=[3]), "allowed: 1, 2, 4, 8"),
        (lambda: gpt_on_a100("8b"), "known: 7b"),
        (lambda: gpt_on_a100("30b", 8, 30), "holds no token"),
        (lambda: gpt_on_a100("7b", forgetting=11), "forgetting=11 .* 12 to 32 of its 32"),
        (lambda: gpt_on_a100("13b", forgetting=12), "40 of its 40 layers"),
        (lambda: gpt_on_a100(context=0), "context=0"),
        (lambda: replace(TINY, memory_bytes=math.nan), "memory_bytes is nan"),
        (lambda: replace(TINY, memory_bytes=math.inf), "memory_bytes is inf"),
        (lambda: replace(TINY, quadratic_ms=math.nan), "quadratic_ms is nan"),
        (lambda: replace(TINY, bandwidth={2: math.inf}), "bandwidth of 2 is inf"),
        (lambda: replace(TINY, quadratic_ms=0.0, linear_ms=0.0, fixed_ms=0.0), "must cost time"),
    ],
)
def test_what_cannot_be_planned_is_refused(make, says: str) -> None:
    with pytest.raises(LengthwiseError, match=says):
        make()


def test_a_cost_table_is_read_and_a_misspelt_field_named(tmp_path: Path) -> None:
    path = tmp_path / "costs.json"
    fields = {**TINY.__dict__, "bandwidth": {str(k): v for k, v in TINY.bandwidth.items()}}
    path.write_text(json.dumps(fields))
    assert read_costs(path) == TINY
    path.write_text(json.dumps({**fields, "linear": 1}))
    with pytest.raises(LengthwiseError, match="'linear' is unknown"):
        read_costs(path)


def test_the_command_prints_one_json_line(tmp_path: Path) -> None:
    path = tmp_path / "lengths.txt"
    path.write_text("60000\n20000\n900\n800 700 600\n")
    arguments = [str(path), "--devices", "16", "--time-limit", "1"]
    result = CliRunner().invoke(command, [*arguments, "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.output)
    assert found["time_ms"] <= found["static_ms"]
    shown = CliRunner().invoke(command, arguments)
    assert "times as fast as groups of" in shown.output


def test_lengths_with_bytes_and_words_tell_their_rates(tmp_path: Path) -> None:
    rows = [{"tokens": 60_000, "bytes": 240_000, "words": 40_000},
            {"tokens": 20_000, "bytes": 90_000, "words": 15_000}]  # fmt: skip
    path = tmp_path / "lengths.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    arguments = [str(path), "--devices", "16", "--time-limit", "1"]
    found = json.loads(CliRunner().invoke(command, [*arguments, "--json"]).output)
    assert (found["bytes"], found["words"]) == (330_000, 55_000)
    shown = CliRunner().invoke(command, arguments).output.splitlines()
    rate = 330_000 / found["time_ms"] * 1000
    assert shown[-2].startswith("330,000 bytes a step, ") and shown[-2].endswith("bytes a second")
    assert int(shown[-2].split()[4].replace(",", "")) == pytest.approx(rate, rel=0.5)
    # Without words in every row there is no sum of them.
    path.write_text('{"tokens": 60000, "bytes": 240000, "words": 4}\n{"tokens": 7, "bytes": 9}\n')
    found = json.loads(CliRunner().invoke(command, [*arguments, "--json"]).output)
    assert found["bytes"] == 240_009 and "words" not in found


@pytest.mark.parametrize(
    ("content", "more", "says"),
    [
        (b'{"tokens": 5}\n{', [], "LENGTHS: line 2 is no JSON"),
        (b'{"tokens": 5}\n[5]', [], "LENGTHS: line 2 is no object with tokens"),
        (b'{"bytes": 5}', [], "tokens of row 1 is None, and has to be a whole number"),
        (b'{"tokens": 5, "words": -1}', [], "words of row 1 is -1, and has to be a whole number"),
        (b"5 \xff", [], "LENGTHS is not UTF-8: byte 0xff at offset 2"),
        (b"\x00\xff", [], "LENGTHS is no UTF-8"),
        (b"500 600", ["--memory-gib", "nan"], "no finite number"),
        (b"500 600", ["--time-limit", "nan"], "no finite number"),
        (b"5 x", [], "'x' is not a whole number"),
        (b"500 600", ["--context", "599"], "--context 599 is less than a sequence of 600"),
        (b"500 600", ["--forgetting", "40"], "forgetting=40 was not measured for 7b"),
    ],
)
def test_bad_input_of_the_command_is_one_line(
    tmp_path: Path, content: bytes, more: list[str], says: str
) -> None:
    path = tmp_path / "lengths.txt"
    path.write_bytes(content)
    result = CliRunner().invoke(command, [str(path), "--devices", "16", *more])
    # An error of usage is printed by the command itself.
    usage = isinstance(result.exception, SystemExit) and result.exit_code == 2
    assert usage or isinstance(result.exception, LengthwiseError)
    said = result.output.splitlines()[-1] if usage else str(result.exception)
    assert says in said and "\n" not in said


@pytest.mark.parametrize("option", ["--context", "--forgetting", "--gpt"])
def test_what_is_of_the_paper_s_table_is_refused_beside_one_s_own(
    tmp_path: Path, option: str
) -> None:
    table, path = tmp_path / "costs.json", tmp_path / "lengths.txt"
    fields = {**TINY.__dict__, "bandwidth": {str(k): v for k, v in TINY.bandwidth.items()}}
    table.write_text(json.dumps(fields))
    path.write_text("50 60")
    arguments = [str(path), "--devices", "8", "--costs", str(table)]
    assert CliRunner().invoke(command, arguments).exit_code == 0
    refused = CliRunner().invoke(command, [*arguments, option, "32"])
    assert isinstance(refused.exception, LengthwiseError)
    assert f"{option} is of the paper's GPT" in str(refused.exception)
