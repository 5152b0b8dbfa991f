"""`lengthwise.plugin` is all that the author of a method needs."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import subprocess
import sys
from collections.abc import Sequence as Seq
from pathlib import Path

import pytest
import torch
from torch import Tensor

import lengthwise
from lengthwise import plugin
from lengthwise.errors import Refused
from lengthwise.plugin import (
    Budget,
    CacheUpdate,
    ChainDrafter,
    KVStore,
    Queries,
    ScoredRetention,
    ScoredSelection,
    Tree,
)
from lengthwise.recipes import resolve
from lengthwise.testing import law_model
from lengthwise.testing.drive import together
from lengthwise.testing.tiny import tokens

METHODS = Path(lengthwise.__file__).parent / "methods"


def names() -> list[str]:
    return list(plugin.__all__)


def test_all_is_exactly_what_the_module_has() -> None:
    public = {name for name in vars(plugin) if not name.startswith("_")}
    assert public == set(names())
    assert names() == sorted(names(), key=lambda name: (name[0].islower(), name))
    assert len(names()) == len(set(names()))


@pytest.mark.parametrize("name", names())
def test_every_name_is_documented(name: str) -> None:
    found = getattr(plugin, name)
    said = vars(found).get("__doc__") if inspect.isclass(found) else found.__doc__
    # A dataclass without a docstring is given its signature.
    assert said and not said.startswith(f"{name}(")


@pytest.mark.parametrize("name", names())
def test_every_function_says_what_it_is_given(name: str) -> None:
    found = getattr(plugin, name)
    if inspect.isfunction(found):
        given = inspect.signature(found)
        assert given.return_annotation is not inspect.Signature.empty
        assert all(p.annotation is not p.empty for p in given.parameters.values())


def test_the_module_says_what_is_for_which_role() -> None:
    said = plugin.__doc__ or ""
    for word in ("ScoredRetention", "ScoredSelection", "ResidualCodec", "ChainDrafter", "Verifier"):
        assert f"`{word}`" in said


def test_most_of_our_own_methods_could_be_written_with_it() -> None:
    """What the classes of our roles import of engine and models is there, under the same name."""
    rooms = ("engine.kv_cache", "engine.speculative", "engine.sampling", "methods.base",
             "models.rope", "models.layer_facts", "models.adapted_model")  # fmt: skip
    # Inside the engine, for drafters that run a model, or for whoever reads what is encoded: no
    # part of what a plug-in can rely on.
    inside = {
        "DraftModelRunner", "MARGIN", "MOST_GUESSES", "Goodput", "Fixed", "Offload", "Readable",
        "FractionalSteps", "OrderFree", "Selectable",
    }  # fmt: skip
    files = [path for path in METHODS.glob("*/*.py")
             if path.parent.name in ("retention", "codecs", "positions")]  # fmt: skip
    missing = set()
    for path in files:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            module = getattr(node, "module", None) or ""
            if isinstance(node, ast.ImportFrom) and module.startswith(
                tuple(f"lengthwise.{room}" for room in rooms)
            ):
                missing |= {alias.name for alias in node.names} - set(names()) - inside
    assert missing == set()


def test_a_file_that_imports_nothing_else_works_on_its_own(tmp_path: Path) -> None:
    """In a process that has imported nothing of lengthwise before it."""
    (tmp_path / "newest.py").write_text(
        "from dataclasses import dataclass\n"
        "import torch\n"
        "from lengthwise.plugin import ScoredRetention\n"
        "@dataclass(frozen=True)\n"
        "class Newest(ScoredRetention):\n"
        "    name = 'newest'\n"
        "    def score(self, key, value, update):\n"
        "        return torch.arange(key.shape[1]).expand(key.shape[:2])\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "lengthwise.testing", "newest.py:Newest", "--family", "llama"],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "newest: conforms" in done.stdout


@dataclasses.dataclass(frozen=True)
class Oldest(ScoredRetention):
    """Old entries first: what is protected is told from what is scored."""

    name = "oldest"

    def score(self, key: Tensor, value: Tensor, update: CacheUpdate) -> Tensor:
        return -torch.arange(key.shape[1]).expand(key.shape[:2])


@dataclasses.dataclass(frozen=True)
class Middle(Oldest):
    """The same with the last queries of the prompt, which it looks at."""

    name = "middle"
    observed = 5

    def score(self, key: Tensor, value: Tensor, update: CacheUpdate) -> Tensor:
        assert update.queries is not None and update.queries.shape == (4, 5, 16)
        return super().score(key, value, update)


def kept(method: ScoredRetention, count: int = 64) -> list[int]:
    """Birth ids that the first head of the last layer keeps of a prompt of `count` tokens."""
    from lengthwise.engine.kv_cache.sequence import Sequence
    from lengthwise.testing.drive import read

    model = law_model("llama")
    sequence = Sequence(model, resolve((method,), model))
    read(sequence, tokens(count), 9)
    sequence.end_prefill()
    (group,) = sequence.head_groups(1)
    ids: list[int] = group.compressible.index()[0].tolist()
    return ids


@pytest.mark.parametrize("cls", [Oldest, Middle])
def test_a_scored_retention_keeps_the_protected_and_the_best(cls: type[Oldest]) -> None:
    # 20 plain tokens of 256 bytes pay for 19 entries with an index of 4 bytes a head.
    ids = kept(cls(budget=Budget(20), sinks=2, recent=3, floor=0))
    assert ids == [*range(16), 61, 62, 63]
    assert kept(cls(budget=Budget(64), sinks=2, recent=3)) == [*range(64)]


def test_a_share_is_never_less_than_its_floor() -> None:
    assert len(kept(Oldest(budget=Budget(10, "%"), sinks=4, recent=4, floor=12))) == 19
    assert kept(Oldest(budget=Budget(10, "%"))) == [*range(64)]


def test_a_scored_retention_refuses_what_its_budget_cannot_hold() -> None:
    model = law_model("llama")
    with pytest.raises(Refused, match="alone are more than the budget; use a budget of at least 9"):
        resolve((Oldest(budget=Budget(7), sinks=4, recent=4),), model)
    plan = resolve((Oldest(budget=Budget(4096, "B"), sinks=4, recent=4),), model)
    with pytest.raises(Refused, match="does not pay for the 8 that are always kept"):
        plan.check_prompt(64)


def test_a_scored_retention_works_beyond_a_window() -> None:
    from lengthwise.methods.positions.self_extend import SelfExtend

    model = law_model("llama")
    plan = resolve((SelfExtend(group=2, window=16), Oldest(budget=Budget(40), floor=0)), model)
    whole, chunked = (together(model, plan, [tokens(88)], 8, chunk)[0] for chunk in (88, 7))
    assert torch.allclose(whole, chunked, atol=1e-4)


@dataclasses.dataclass(frozen=True)
class Flat(ScoredSelection):
    """Later far keys are worth more, in as many rows as `rows` says."""

    name = "flat"
    rows = 0

    def score(self, queries: Queries, far: KVStore) -> Tensor:
        scores = torch.arange(float(len(far)))
        return scores.expand(self.rows, -1) if self.rows else scores


@pytest.mark.parametrize("rows", [0, 2, 4])
def test_a_scored_selection_may_choose_for_all_heads_or_for_each(
    rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, seen = law_model("llama"), []
    monkeypatch.setattr(Flat, "rows", rows)
    from lengthwise.methods.bases import ScoredKeys

    plan_of = ScoredKeys.plan

    def watched(self: ScoredKeys, queries: Queries, far: KVStore) -> object:
        choice = plan_of(self, queries, far)
        if choice is not None:
            seen.append((choice.ids, len(far), queries))
        return choice

    monkeypatch.setattr(ScoredKeys, "plan", watched)
    method = Flat(budget=Budget(24), window=8, sinks=2)
    together(model, resolve((method,), model), [tokens(88)], 8)
    assert seen
    for ids, count, queries in seen:
        assert ids.shape[:-1] == ((rows,) if rows else ())
        near = queries.span[1] + 1 - queries.boundary
        assert near + ids.shape[-1] == 24
        first = ids if not rows else ids[0]
        assert first.tolist() == [0, 1, *range(count - (24 - near - 2), count)]


@dataclasses.dataclass(frozen=True)
class Counting(ChainDrafter):
    """More than it is asked for."""

    name = "counting"

    def draft(self, tokens: Seq[int], limit: int) -> Seq[int]:
        return range(100)


def test_a_chain_is_cut_at_the_limit_and_its_levels_are_told_apart() -> None:
    drafter = Counting().start_drafter(law_model("llama"))
    assert drafter is not None and drafter.name == "counting"
    tree = Tree(3)
    drafter.propose([1, 2, 3], tree, 12)
    assert tree.tokens == [3, *range(12)] and tree.is_chain()
    assert tree.buckets[1:] == [0, 1, 2, 3, 4, 5, 6, 7, 7, 7, 7, 7]
    assert set(tree.sources[1:]) == {"counting"}
