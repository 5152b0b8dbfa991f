"""What ways of building sequences teach, on tiny models trained from scratch.

    python -m benchmarks.checks.sequence_methods FOLDER NAME [--seed 0]

prints one JSON line a trained model. NAME is `icp`, in-context pretraining: related documents in a
row against strangers; `knots`, Untie the Knots against the same stream unknotted; `pairs`, CAT-LM:
a function with its own doctest against one with another's, and against both alone; `upsampling`, a
small domain in the last 15% of training against the same amount over all of it, and against none.
Models of one check read equally many tokens. Losses are nats a token, on files that were held out,
each with the standard error of its mean over documents. One thread; 3 to 6 minutes each.
"""

from __future__ import annotations

import argparse
import ast
import doctest
import json
import random
import statistics
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from benchmarks.checks import tiny

from lengthwise.sequences.builders.pair import TOKEN
from lengthwise.sequences.files import written_aside

COUNT = 192
"""Documents measured."""
LONGEST = 384
FOUND = 32
"""Tokens behind a cut that a model predicts better where it finds what stood before the cut."""
BETWEEN = 384
Ids = list[int]


def tokens(folder: Path, place: Path) -> list[Ids]:
    """The token ids of each text of a JSONL file."""
    return [ids.tolist() for ids in tiny.encoder(folder).encode(tiny.texts(place))]


def mean(values: Sequence[float]) -> list[float]:
    """[mean, its standard error]."""
    return [round(statistics.mean(values), 4),
            round(statistics.stdev(values) / len(values) ** 0.5, 4)]  # fmt: skip


def icp(folder: Path, seed: int) -> Iterator[dict[str, Any]]:
    """A document alone, behind one of the same file, and behind one of another file."""
    train_on, validation = tiny.library(folder)
    end = tiny.encoder(folder).end
    lines = [json.loads(line) for line in validation.read_text(encoding="utf-8").splitlines()]
    ids = tokens(folder, validation)
    owners = [line["file"] for line in lines]
    chosen = [
        i for i in range(1, len(ids))
        if owners[i] == owners[i - 1] and min(len(ids[i]), len(ids[i - 1])) >= 32
        and max(len(ids[i]), len(ids[i - 1])) <= LONGEST
    ]  # fmt: skip
    chosen = sorted(random.Random(0).sample(chosen, min(COUNT, len(chosen))))
    for order in ("shuffle", "icp"):
        rows = tiny.data(folder, train_on, "concat", order)
        model = tiny.trained(tiny.run(folder, f"concat-{order}-{seed}", rows, seed=seed))
        found: dict[str, list[float]] = {"alone": [], "related": [], "stranger": []}
        for number, i in enumerate(chosen):
            other = chosen[(number + len(chosen) // 2) % len(chosen)] - 1
            for name, before in (("alone", [end]), ("related", [end, *ids[i - 1], end]),
                                 ("stranger", [end, *ids[other], end])):  # fmt: skip
                found[name].append(float(tiny.losses(model, before, ids[i]).mean()))
        gains = [a - b for a, b in zip(found["stranger"], found["related"], strict=True)]
        yield {"order": order, "documents": len(chosen), "seed": seed,
               **{name: mean(each) for name, each in found.items()},
               "gain_of_related": mean(gains)}  # fmt: skip


def knots(folder: Path, seed: int) -> Iterator[dict[str, Any]]:
    """The tokens behind a cut: what went before stands near, far before, or nowhere."""
    train_on, validation = tiny.library(folder)
    end = tiny.encoder(folder).end
    ids = tokens(folder, validation)
    whole = [each for each in ids if 2 * FOUND + 16 <= len(each) <= LONGEST]
    whole = random.Random(0).sample(whole, min(COUNT, len(whole)))
    fill = [token for each in ids if len(each) < 64 for token in [*each, end]]
    for method in ("concat", "utk"):
        rows = tiny.data(folder, train_on, method)
        name = f"concat-shuffle-{seed}" if method == "concat" else f"{method}-{seed}"
        model = tiny.trained(tiny.run(folder, name, rows, seed=seed))
        added = json.loads((folder / rows / "manifest.json").read_text())["added_tokens"]
        out, into = added.get("<|knot_1_out|>"), added.get("<|knot_1_in|>")
        found: dict[str, list[float]] = {}
        for number, each in enumerate(whole):
            head, tail = each[: len(each) - FOUND - 1], each[len(each) - FOUND - 1 :]
            start = number * 97 % (len(fill) - BETWEEN)
            between = [*fill[start : start + BETWEEN], end]
            ways = {"near": [end, *head], "far": [end, *head, end, *between],
                    "nowhere": [end, *between]}  # fmt: skip
            if out is not None and into is not None:
                ways |= {"far_knot": [end, *head, out, *between, into],
                         "nowhere_knot": [end, *between, into]}  # fmt: skip
            for way, before in ways.items():
                # Nobody is taught to predict the first token behind a cut.
                loss = float(tiny.losses(model, [*before, tail[0]], tail[1:]).mean())
                found.setdefault(way, []).append(loss)
        gain = [a - b for a, b in zip(found["nowhere"], found["far"], strict=True)]
        knotted = [a - b for a, b in zip(found.get("nowhere_knot", ()), found.get("far_knot", ()),
                                         strict=True)]  # fmt: skip
        yield {"method": method, "documents": len(whole), "seed": seed,
               **{way: mean(values) for way, values in found.items()}, "gain_of_far": mean(gain),
               **({"gain_of_far_knot": mean(knotted)} if knotted else {})}  # fmt: skip


def examples(path: Path) -> Iterator[tuple[str, str]]:
    """(source without docstring, doctest) of the functions of a file that have one."""
    try:
        text = path.read_text(encoding="utf-8")
        nodes = list(ast.walk(ast.parse(text)))
    except (UnicodeDecodeError, SyntaxError):
        return
    lines = text.splitlines(keepends=True)
    parser = doctest.DocTestParser()
    for node in nodes:
        if isinstance(node, ast.FunctionDef) and (doc := ast.get_docstring(node)) and node.body[1:]:
            head = "".join(lines[node.lineno - 1 : node.body[0].lineno - 1])
            body = "".join(lines[node.body[0].end_lineno or 0 : node.end_lineno])
            try:
                found = parser.get_examples(doc)
            except ValueError:
                continue
            test = "".join(f">>> {each.source}{each.want}" for each in found)
            if test and len(head + body) < 1200 and len(test) < 800:
                yield head + body, test


def write_pairs(folder: Path) -> dict[str, Path]:
    """Folders of code and test files: `aligned`, `others` (tests dealt anew), `alone`."""
    places = {name: folder / f"pairs-{name}" for name in ("aligned", "others")}
    held_out = folder / "pairs-validation.jsonl"
    if not held_out.exists():
        paths = [*tiny.files("networkx"), *tiny.files("sympy"), *tiny.files()]
        train_on = [each for i, path in enumerate(paths) if i % 20 for each in examples(path)]
        dealt = [test for _, test in train_on]
        random.Random(0).shuffle(dealt)
        for name, place in places.items():
            place.mkdir(parents=True, exist_ok=True)
            for n, (code, test) in enumerate(train_on):
                (place / f"f{n:05d}x.py").write_text(code, encoding="utf-8")
                own = test if name == "aligned" else dealt[n]
                (place / f"test_f{n:05d}x.py").write_text(own, encoding="utf-8")
        kept = [each for path in paths[::20] for each in examples(path)]
        with written_aside(held_out) as aside:
            aside.write_text("".join(json.dumps(each) + "\n" for each in kept), encoding="utf-8")
    return places


def pairs(folder: Path, seed: int) -> Iterator[dict[str, Any]]:
    """Tests behind their own code, behind the code of another test, and alone."""
    places = write_pairs(folder)
    end, encode = tiny.encoder(folder).end, tiny.encoder(folder).encode
    lines = (folder / "pairs-validation.jsonl").read_text(encoding="utf-8").splitlines()
    held_out = [[ids.tolist() for ids in encode(json.loads(line))] for line in lines]
    held_out = random.Random(0).sample(held_out, min(COUNT, len(held_out)))
    for name, source, method in (("pairs", "aligned", "pair"), ("other pairs", "others", "pair"),
                                 ("files alone", "aligned", "best-fit")):  # fmt: skip
        rows = tiny.data(folder, places[source], method, length=512)
        place = tiny.run(folder, f"{method}-{source}-{seed}", rows, seed=seed)
        model = tiny.trained(place)
        added = json.loads((folder / rows / "manifest.json").read_text())["added_tokens"]
        between = added.get(TOKEN, end)
        found: dict[str, list[float]] = {"own": [], "another": [], "nothing": []}
        for n, (code, test) in enumerate(held_out):
            other = held_out[(n + len(held_out) // 2) % len(held_out)][0]
            for way, before in (("own", [*code, between]), ("another", [*other, between]),
                                ("nothing", [between])):  # fmt: skip
                found[way].append(float(tiny.losses(model, before, test).mean()))
        gain = [a - b for a, b in zip(found["another"], found["own"], strict=True)]
        yield {"rows": name, "tests": len(held_out), "seed": seed,
               **{way: mean(values) for way, values in found.items()},
               "gain_of_own": mean(gain)}  # fmt: skip


def upsampling(folder: Path, seed: int) -> Iterator[dict[str, Any]]:
    """networkx as the domain: in the last 15% of one epoch, over all of it, or never."""
    paths = tiny.files("networkx")
    domain = tiny.documents(folder, "domain", [p for i, p in enumerate(paths) if i % 4 == 1], 1500)
    library, validation = tiny.library(folder)
    base = folder / "base.jsonl"
    if not base.exists():
        lines = library.read_text(encoding="utf-8").splitlines(keepends=True)
        random.Random(0).shuffle(lines)
        with written_aside(base) as aside:
            aside.write_text("".join(lines[: len(lines) // 4]), encoding="utf-8")
    held_out = tiny.documents(folder, "domain-validation", paths[::4], 1500)
    sets = {"base": tokens(folder, validation), "domain": tokens(folder, held_out)}
    end = tiny.encoder(folder).end
    chosen = {
        name: random.Random(0).sample([e for e in each if 32 <= len(e) <= LONGEST], COUNT)
        for name, each in sets.items()
    }
    rows, extra = tiny.data(folder, base, "concat"), tiny.data(folder, domain, "concat")
    for name, share, weight in (("never", 0.15, 0.0), ("late", 0.15, 0.5), ("all", 1.0, 0.075)):
        other: dict[str, Any] = {"epochs": 1, "seed": seed}
        if weight:
            other["upsampling"] = {"share": share,
                                   "domains": {"d": {"data": extra, "weight": weight}}}  # fmt: skip
        place = tiny.run(folder, f"upsampling-{name}-{seed}", rows, **other)
        model = tiny.trained(place)
        loss = {kind: mean([float(tiny.losses(model, [end], each).mean()) for each in texts])
                for kind, texts in chosen.items()}  # fmt: skip
        yield {"domain_read": name, "share": share, "weight": weight, "seed": seed, **loss}


CHECKS: dict[str, Callable[[Path, int], Iterator[dict[str, Any]]]] = {
    "icp": icp, "knots": knots, "pairs": pairs, "upsampling": upsampling,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description="what ways of building sequences teach")
    parser.add_argument("folder", type=Path)
    parser.add_argument("name", choices=CHECKS)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    for found in CHECKS[chosen.name](chosen.folder, chosen.seed):
        corpus = tiny.fingerprint(chosen.folder / "train.jsonl")
        print(json.dumps({"check": chosen.name, "corpus": corpus, **found}), flush=True)


if __name__ == "__main__":
    main()
