"""A kernel that fails where it is compiled: the next one serves, and it is said once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from lengthwise.engine.attention.attend import attend
from lengthwise.engine.kernels import attempts, choice, flex, tuning
from lengthwise.engine.kernels.kernel import BLOCK
from lengthwise.engine.kernels.part import Answer, Asked, Part
from lengthwise.engine.kernels.plain import plain


def drawn(size: int = 16) -> Part:
    return Part(torch.randn(4, 3, size), *torch.randn(2, 2, 9, size))


@pytest.fixture(autouse=True)
def nothing_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "_FAILED", set())
    monkeypatch.setattr(attempts, "_PROVEN", set())
    monkeypatch.setattr("lengthwise._utils.saying._SAID", set())


def failing(monkeypatch: pytest.MonkeyPatch, error: Exception) -> list[int]:
    """Has the kernel `stock` be one that is compiled, and fail."""
    called: list[int] = []

    def attended(asked: Asked) -> None:
        called.append(asked.parts[0].query.shape[-1])
        raise error

    kernel = dataclasses.replace(BLOCK["stock"], attend=attended, compiled=True)
    monkeypatch.setitem(BLOCK, "stock", kernel)
    return called


def test_the_next_kernel_serves_and_it_is_said_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    called = failing(monkeypatch, ValueError("at 3:1: no such instruction\nwith a long trace"))
    part = drawn()
    with choice.using("stock"):
        for _ in range(3):
            out, _ = attend([part], 0.3)
            assert torch.allclose(out, plain(Asked([part], 0.3))[0], atol=1e-5)
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "kernel stock fails here" in said
    assert "no such instruction" in said and "trace" not in said
    assert len(called) == 1, "what failed is not tried again"


def test_what_failed_for_one_shape_is_tried_for_another(monkeypatch: pytest.MonkeyPatch) -> None:
    called = failing(monkeypatch, RuntimeError("out of resources"))
    with choice.using("stock"):
        for size in (16, 32, 16, 32):
            attend([drawn(size)], 0.3)
    assert called == [16, 32]


def test_memory_that_runs_out_is_no_fault_of_a_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, torch.OutOfMemoryError("CUDA out of memory"))
    with choice.using("stock"), pytest.raises(torch.OutOfMemoryError):
        attend([drawn()], 0.3)
    assert not attempts._FAILED


def test_a_kernel_that_fails_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, RuntimeError("no compiler"))
    shape = choice.Shape("cpu", torch.float32, 4, 2, 16)
    ways = tuning._block_ways(shape, 8, 8)
    assert "stock" not in ways and "flash" in ways


def test_flex_is_timed_where_a_softcap_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flex, "EAGER", True)
    shape = choice.Shape("cpu", torch.float32, 4, 2, 16)
    assert "flex" not in tuning._block_ways(shape, 8, 8)
    assert "flex" in tuning._block_ways(shape, 8, 8, softcap=5.0)


def test_where_flex_does_not_compile_another_serves(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*given: object, **named: object) -> None:
        raise RuntimeError("BackendCompilerFailed: no C compiler")

    monkeypatch.setattr(flex, "EAGER", True)
    monkeypatch.setattr(flex, "_attention", lambda: fails)
    part = drawn()
    with choice.using("flex"):
        for _ in range(2):
            out, _ = attend([part], 0.3, softcap=3.0)
            assert torch.allclose(out, plain(Asked([part], 0.3, 3.0))[0], atol=1e-5)
    assert capsys.readouterr().err.count("kernel flex fails here") == 1


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda out, lse: (out * 1.1, lse), "differs from its plain twin by 10.0%"),
        (lambda out, lse: (out, lse + 1), "differs from its plain twin by"),
        (lambda out, lse: (out / 0, lse), "gives numbers that its plain twin does not"),
        (lambda out, lse: (out.roll(1, 1), lse), "differs from its plain twin by"),
    ],
)
def test_a_kernel_that_gives_wrong_numbers_gives_way(
    wrong: Callable[[Tensor, Tensor], Answer], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    part = drawn()
    right = plain(Asked([part], 0.3, need_lse=True))
    assert right[1] is not None
    given = wrong(right[0], right[1])
    for _ in range(2):
        found = attempts.attempt("toy", part.query, part.key, lambda: given, lambda: right)
        assert found is None
    heard = capsys.readouterr().err
    assert said in heard and heard.count("kernel toy fails here") == 1


def test_a_kernel_is_compared_once_for_a_shape_and_not_where_scores_are_too_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    twins: list[int] = []

    def twin() -> Answer:
        twins.append(1)
        return torch.ones(4, 3, 16), None

    part = drawn()
    for _ in range(3):
        found = attempts.attempt("toy", part.query, part.key, twin, twin)
        assert found is not None
    assert len(twins) == 4
    monkeypatch.setattr(attempts, "COMPARED", 1)
    attempts.attempt("other", part.query, part.key, twin, twin)
    assert len(twins) == 5
