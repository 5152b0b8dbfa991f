"""Tables outlive requests and processes, whole or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lengthwise.engine import loop
from lengthwise.engine.kv_cache.sequence import Sequence
from lengthwise.engine.plan import Plan
from lengthwise.engine.sampling import Sampling
from lengthwise.engine.speculative.draft_length import Fixed
from lengthwise.errors import LengthwiseError, RecipeError
from lengthwise.methods.drafting._shared import tables
from lengthwise.methods.drafting.aded import ADED, ADEDDrafter
from lengthwise.methods.drafting.recycling import Matrix, Recycling, RecyclingDrafter
from lengthwise.models.adapt import adapt
from lengthwise.testing.tiny import tiny_model
from tests.table_runs import VOCAB, generate, model, tokens


@pytest.mark.parametrize("cls", [Recycling, ADED])
def test_a_fresh_table_is_nobody_elses(cls: type[Recycling] | type[ADED]) -> None:
    adapted = adapt(tiny_model("llama", vocab_size=VOCAB))
    fresh, kept = cls(fresh=True).start_drafter(adapted), cls().start_drafter(adapted)
    assert table(fresh) is not table(kept)
    assert table(cls().start_drafter(adapted)) is table(kept)
    with pytest.raises(RecipeError, match="leave out fresh or table"):
        cls(fresh=True, table="some.table")


def table(drafter: RecyclingDrafter | ADEDDrafter) -> tables.Table:
    return drafter.matrix if isinstance(drafter, RecyclingDrafter) else drafter.trigrams


@pytest.mark.parametrize("cls", [Recycling, ADED])
def test_a_saved_table_is_the_same_after_loading(
    cls: type[Recycling] | type[ADED], tmp_path: Path
) -> None:
    path = tmp_path / "new folder" / "a.table"
    drafter = cls(table=str(path)).start_drafter(model())
    generate(tokens(30), drafter)
    other = adapt(tiny_model("llama", initializer_range=0.15, vocab_size=VOCAB))
    again = cls(table=str(path)).start_drafter(other)
    assert table(again) is not table(drafter)
    mine, theirs = table(drafter).arrays(), table(again).arrays()
    assert mine.keys() == theirs.keys()
    assert all(np.array_equal(mine[name], theirs[name]) for name in mine)
    assert [file.name for file in path.parent.iterdir()] == ["a.table"]
    prompt = tokens(30, 3)
    assert generate(prompt, again, on=other).output == generate(prompt, on=other).output


@pytest.mark.parametrize("cls", [Recycling, ADED])
def test_a_damaged_file_is_refused_by_name(
    cls: type[Recycling] | type[ADED], tmp_path: Path
) -> None:
    path = tmp_path / "a.table"
    generate(tokens(30), cls(table=str(path)).start_drafter(model()))
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[-1] ^= 255
    for number, damaged in enumerate((whole[: len(whole) // 2], whole[:3], b"", bytes(flipped))):
        bad = tmp_path / f"bad{number}.table"
        bad.write_bytes(damaged)
        with pytest.raises(LengthwiseError, match=f"bad{number}.table.*delete the file"):
            cls(table=str(bad)).check(model())
    with pytest.raises(LengthwiseError, match="this is a folder"):
        cls(table=str(tmp_path)).start_drafter(model())


@pytest.mark.parametrize("cls", [Recycling, ADED])
def test_a_table_of_another_model_or_drafter_is_refused(
    cls: type[Recycling] | type[ADED], tmp_path: Path
) -> None:
    path = tmp_path / "a.table"
    generate(tokens(30), cls(table=str(path)).start_drafter(model()))
    with pytest.raises(LengthwiseError, match=r"family is llama and gemma3_text is expected"):
        cls(table=str(path)).check(model("gemma3_text"))
    with pytest.raises(LengthwiseError, match=r"vocabulary is 64 and 96 is expected"):
        cls(table=str(path)).check(model("llama", 96))
    other = ADED if cls is Recycling else Recycling
    with pytest.raises(
        LengthwiseError, match=f"kind is {cls.name}.* and {other.name}.* is expected"
    ):
        other(table=str(path)).check(model())


def test_a_file_of_another_version_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(tmp_path / "a.table")
    monkeypatch.setattr(tables, "VERSION", "0")
    tables.save(model(), Matrix(VOCAB), path)
    monkeypatch.undo()
    with pytest.raises(LengthwiseError, match="version is 0 and 1 is expected"):
        tables.load(model(), Matrix, path)


def test_a_table_that_cannot_be_saved_costs_no_answer(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    prompt = tokens(30)
    drafter = Recycling(table=str(tmp_path / "file" / "a.table")).start_drafter(model())
    sequence = Sequence(model(), Plan(drafters=(lambda: drafter,)))
    request = loop.begin(sequence, Sampling(), 20, ())
    loop.start(request, loop.prefill(sequence, prompt))
    for _ in loop.run(request, Fixed()):
        pass
    loop.finish(request)
    (note,) = request.metrics.notes
    assert "cannot be saved" in note and len(request.output) == 20
