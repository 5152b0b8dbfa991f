"""Programs with holes: whether calibrations keep their promise, and how much is kept."""

from __future__ import annotations

import ast
import math
import random
import sysconfig
import textwrap
from collections.abc import Iterator
from pathlib import Path

from benchmarks.reproduction.harness import Found, Note, check, load

from lengthwise.evaluation.pac.holes import BUDGETS, Tree, nested, tree_of
from lengthwise.evaluation.pac.predicting import Prediction, predict_programs
from lengthwise.evaluation.pac.program_tree import completes, program_of
from lengthwise.evaluation.pac.threshold import allowed_errors, choose

MODULES = ("argparse", "calendar", "configparser", "datetime", "decimal", "doctest", "fractions",
           "ftplib", "imaplib", "inspect", "ipaddress", "locale", "mailbox", "nntplib", "pathlib",
           "pickletools", "plistlib", "pprint", "random", "shlex", "shutil", "smtplib", "socket",
           "ssl", "statistics", "string", "subprocess", "tarfile", "tempfile", "textwrap",
           "threading", "tokenize", "traceback", "types", "typing", "unittest/case",
           "unittest/mock", "urllib/parse", "urllib/request", "uuid", "weakref", "zipfile",
           "collections/__init__", "email/message", "http/client", "logging/__init__",
           "xml/dom/minidom", "xml/etree/ElementTree")  # fmt: skip


@check({"doubts": "", "epsilon": ".2f", "delta": ".2f", "holes": "", "violated": ".3f",
        "without the bound": ".3f", "errors": ".3f", "nodes kept": ".3f"})  # fmt: skip
def pac(
    calibrations: int = 500, examples: int = 100, trees: int = 300, seed: int = 0
) -> Iterator[Found]:
    """Calibrations on drawn examples of a population whose errors are known: random trees whose
    nodes are wrong as often as their doubts say, or far more often."""
    for name, power in (("as they say", 1.0), ("three times too low", 3.0)):
        for holes in (1, 3):
            firsts, shares = _population(trees, holes, power, seed)
            for epsilon in (0.1, 0.2, 0.3):
                for delta in (0.1, 0.01):
                    most = allowed_errors(examples, epsilon, delta)
                    drawn = random.Random(seed + 1)
                    found = [choose(drawn.choices(firsts, k=examples), len(BUDGETS), most)[0]
                             for _ in range(calibrations)]  # fmt: skip
                    naive = [choose(drawn.choices(firsts, k=examples), len(BUDGETS),
                                    int(epsilon * examples))[0]
                             for _ in range(calibrations)]  # fmt: skip
                    rates = [_rate(firsts, each) for each in found]
                    kept = [shares[each] if each >= 0 else 0.0 for each in found]
                    yield {
                        "doubts": name, "epsilon": epsilon, "delta": delta, "holes": holes,
                        "violated": sum(rate > epsilon for rate in rates) / calibrations,
                        "without the bound":
                            sum(_rate(firsts, each) > epsilon for each in naive) / calibrations,
                        "errors": sum(rates) / calibrations, "nodes kept": sum(kept) / calibrations,
                    }  # fmt: skip


def _rate(firsts: list[int], chosen: int) -> float:
    return sum(first <= chosen for first in firsts) / len(firsts)


def _population(trees: int, holes: int, power: float, seed: int) -> tuple[list[int], list[float]]:
    """Of ten examples a tree the first threshold that errs, and the mean share kept at each."""
    drawn, firsts, shares = random.Random(seed), [], [0.0] * len(BUDGETS)
    for _ in range(trees):
        count, parents = drawn.randint(4, 24), [-1]
        for node in range(1, count):
            parents.append(drawn.choice([node - 1, *(p for p in parents[-3:] if p >= 0)]))
        parents = _preordered(parents)
        costs = [drawn.expovariate(5.0) for _ in range(count)]
        kept = nested(Tree(parents, costs, [1] * count), holes)
        shares = [
            share + sum(each) / count / trees for share, each in zip(shares, kept, strict=True)
        ]
        for _ in range(10):
            wrong = [drawn.random() > math.exp(-power * cost) for cost in costs]
            errs = (n for n, each in enumerate(kept)
                    if any(w and k for w, k in zip(wrong, each, strict=True)))  # fmt: skip
            firsts.append(next(errs, len(BUDGETS)))
    return firsts, shares


def _preordered(parents: list[int]) -> list[int]:
    """The same tree with its nodes in preorder."""
    found: list[int] = []

    def visit(node: int, above: int) -> None:
        number = len(found)
        found.append(above)
        for child in (c for c, p in enumerate(parents) if p == node):
            visit(child, number)

    visit(0, -1)
    return found


@check({"what is kept": "", "epsilon": ".2f", "errors held out": ".3f", "violated": ".3f",
        "nodes kept": ".3f", "programs whole": ".3f"})  # fmt: skip
def programs(
    functions: int = 160, delta: float = 0.1, splits: int = 100, seed: int = 0
) -> Iterator[Found]:
    """One-line functions of the standard library, of which the model writes what they return:
    calibrated on one half, tried on the other, over splits."""
    given = _functions(functions, seed)
    model, found = load("float32"), []
    for start in range(0, len(given), 8):
        part = given[start : start + 8]
        begins = [begin for begin, _ in part]
        found += predict_programs(model, begins, begins, "full", 32, ["\n"])
    rights = [program_of(program) for _, program in given]
    yield Note(
        functions=len(given), programs=sum(each.program is not None for each in found),
        whole_right=sum(
            each.program is not None and right is not None
            and completes(each.program, right, [True] * len(each.program.preorder()))
            for each, right in zip(found, rights, strict=True)
        ),
    )  # fmt: skip
    for name, holes in (("whole or nothing", 0), ("1 hole", 1), ("2 holes", 2), ("3 holes", 3)):
        kept = [_kept(each, holes) for each in found]
        firsts = [
            next((n for n, k in enumerate(every) if each.program is not None and right is not None
                  and not completes(each.program, right, k)), len(BUDGETS))
            for each, every, right in zip(found, kept, rights, strict=True)
        ]  # fmt: skip
        for epsilon in (0.1, 0.2, 0.3):
            yield {"what is kept": name, "epsilon": epsilon,
                   **_splits(found, kept, firsts, epsilon, delta, splits, seed)}  # fmt: skip


def _kept(each: Prediction, holes: int) -> list[list[bool]]:
    """At every threshold; with no holes all of a program whose doubts are within it, or nothing."""
    if holes or each.program is None:
        return each.kept(max(1, holes))
    tree = tree_of(each.program)
    return [[sum(tree.costs) <= budget] * len(tree.costs) for budget in BUDGETS]


def _splits(
    found: list[Prediction], kept: list[list[list[bool]]], firsts: list[int], epsilon: float,
    delta: float, splits: int, seed: int,
) -> dict[str, float]:  # fmt: skip
    drawn, half = random.Random(seed), len(found) // 2
    most = allowed_errors(half, epsilon, delta)
    rates, shares, whole = [], [], []
    for _ in range(splits):
        order = drawn.sample(range(len(found)), len(found))
        chosen, _ = choose([firsts[n] for n in order[:half]], len(BUDGETS), most)
        rest = order[half:]
        rates.append(sum(firsts[n] <= chosen for n in rest) / len(rest))
        each = [_share(found[n], kept[n][chosen]) if chosen >= 0 else 0.0 for n in rest]
        shares.append(sum(each) / len(rest))
        whole.append(sum(share == 1 for share in each) / len(rest))
    return {
        "errors held out": sum(rates) / splits,
        "violated": sum(rate > epsilon for rate in rates) / splits,
        "nodes kept": sum(shares) / splits, "programs whole": sum(whole) / splits,
    }  # fmt: skip


def _share(each: Prediction, kept: list[bool]) -> float:
    if each.program is None:
        return 0.0
    wrote = [node.tokens > 0 for node in each.program.preorder()]
    return sum(k and w for k, w in zip(kept, wrote, strict=True)) / max(1, sum(wrote))


def _functions(count: int, seed: int) -> list[tuple[str, str]]:
    """What comes before a function's only `return`, and all of it."""
    found, lib = [], Path(sysconfig.get_path("stdlib"))
    for module in MODULES:
        path = lib / f"{module}.py"
        if not path.exists():
            continue
        source = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef) and isinstance(node.body[-1], ast.Return):
                text = textwrap.dedent(" " * node.col_offset + str(
                    ast.get_source_segment(source, node)))  # fmt: skip
                begin, _, value = text.rpartition("return")
                said = value.strip()
                short = len(node.body) <= 2 and len(begin) < 400 and "\n" not in value.strip()
                if short and said and program_of(text) is not None:
                    found.append((begin + "return", text + "\n"))
    return random.Random(seed).sample(sorted(set(found)), min(count, len(set(found))))
