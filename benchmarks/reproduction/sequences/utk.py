"""What ways of building sequences teach, on tiny models trained from scratch.

    python -m benchmarks.checks.sequence_methods FOLDER NAME [--seed 0]

prints one JSON line a trained model. NAME is `icp`, in-context pretraining: related documents in a
row against strangers; `knots`, Untie the Knots against the same stream unknotted; `pairs`, CAT-LM:
a file with its own test against one with another's, and against both alone; `upsampling`, a small
domain in the last 15% of training against the same amount over all of it, and against none;
`copying`, whether a model of real text predicts better what stood before it already. Models of one
check read equally many tokens. The first three are on the made-up documents of `subjects`,
the last is on functions of Python's library and of networkx. Losses are nats a token on what was
held out, each with the standard error of its mean over documents. One thread, 2 to 6 minutes each.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.reproduction import tiny
from benchmarks.reproduction.sequences.subjects import document, encoder, ids_of, subjects, write
from transformers import PreTrainedModel

from lengthwise.sequences.builders.pair import TOKEN
from lengthwise.sequences.files import written_aside
from lengthwise.sequences.store import SequenceSet

COUNT = 200
"""Documents measured."""
LONGEST = 384
ROW = 256
TINY = {
    "family": "llama", "hidden_size": 64, "intermediate_size": 168, "num_hidden_layers": 2,
    "num_attention_heads": 2, "num_key_value_heads": 2, "tie_word_embeddings": True,
}  # fmt: skip
RUN: dict[str, Any] = {"model": TINY, "steps": 500, "optimizer": {"lr": 5e-3}}
Ids = list[int]


def mean(values: Sequence[float]) -> list[float]:
    """[mean, its standard error]."""
    return [round(statistics.mean(values), 4),
            round(statistics.stdev(values) / len(values) ** 0.5, 4)]  # fmt: skip


def gain(without: Sequence[float], given: Sequence[float]) -> list[float]:
    """By how much the second are lower, document by document."""
    return mean([a - b for a, b in zip(without, given, strict=True)])


def loss(model: PreTrainedModel, before: Ids, document: Ids) -> float:
    """Nats a token of a document."""
    return float(tiny.losses(model, before, document).mean())


def icp(folder: Path, seed: int) -> Iterator[dict[str, Any]]:
    """A document alone, behind one of its own subject, and behind one of another."""
    words, chance = encoder(folder), random.Random(1)
    end, ids = words.end, ids_of(words)
    learned = [document(s, 24, chance) for s in subjects(2400, seed=1) for _ in range(10)]
    source = write(folder / "related.jsonl", learned)
    two = [[ids(document(s, 24, chance)) for _ in range(2)] for s in subjects(COUNT, seed=2)]
    for order in ("shuffle", "icp"):
        rows = tiny.data(folder, source, "concat", order, ROW, words)
        model = tiny.trained(tiny.run(folder, f"concat-{order}-{seed}", rows, seed=seed, **RUN))
        found: dict[str, list[float]] = {"alone": [], "related": [], "stranger": []}
        for number, (other, own) in enumerate(two):
            stranger = two[number - COUNT // 2][0]
            for name, before in (("alone", [end]), ("related", [end, *other, end]),
                                 ("stranger", [end, *stranger, end])):  # fmt: skip
                found[name].append(loss(model, before, own))
        yield {"order": order, "seed": seed, **{name: mean(each) for name, each in found.items()},
               "gain_of_related": gain(found["stranger"], found["related"])}  # fmt: skip


def knots(folder: Path, seed: int) -> Iterator[dict[str, Any]]:
    """The end of a document whose beginning stands before it, before three others, or nowhere."""
    words, chance = encoder(folder), random.Random(3)
    end, ids = words.end, ids_of(words)
    learned = [document(s, 64, chance) for s in subjects(32_000, seed=3)]
    source = write(folder / "long.jsonl", learned)
    held_out = [ids(document(s, 64, chance)) for s in subjects(4 * COUNT, seed=4)]
    for method in ("concat", "utk"):
        rows = tiny.data(folder, source, method, length=2 * ROW, words=words)
        place = tiny.run(folder, f"{method}-{seed}", rows, seed=seed, **RUN | {"steps": 1500})
        model = tiny.trained(place)
        added = SequenceSet(folder / rows).manifest["added_tokens"]
        out, into = added.get("<|knot_1_out|>"), added.get("<|knot_1_in|>")
        found: dict[str, list[float]] = {}
        for number, whole in enumerate(held_out[:COUNT]):
            head, tail = whole[:48], whole[48:]
            others = held_out[COUNT + 3 * number : COUNT + 3 * number + 3]
            between = [token for each in others for token in [*each, end]]
            ways = {"near": [end, *head], "far": [end, *head, end, *between],
                    "nowhere": [end, *between]}  # fmt: skip
            if out is not None and into is not None:
                ways |= {"far_knot": [end, *head, out, *between, into],
                         "nowhere_knot": [end, *between, into]}  # fmt: skip
            for way, before in ways.items():
                # Nobody is taught to predict the first token behind a cut.
                found.setdefault(way, []).append(loss(model, [*before, tail[0]], tail[1:]))
        more = {}
        if "far_knot" in found:
            more["gain_of_far_knot"] = gain(found["nowhere_knot"], found["far_knot"])
        yield {"method": method, "seed": seed,
               **{way: mean(values) for way, values in found.items()},
               "gain_of_near": gain(found["nowhere"], found["near"]),
               "gain_of_far": gain(found["nowhere"], found["far"]), **more}  # fmt: skip


def write_pairs(folder: Path) -> dict[str, Path]:
    """Folders of files and their tests: `aligned`, and `others`, whose tests were dealt anew."""
    places = {name: folder / f"pairs-{name}" for name in ("aligned", "others")}
    chance = random.Random(5)
    both = [[document(s, 32, chance) for _ in range(2)] for s in subjects(9600, seed=5)]
    dealt = [test for _, test in both]
    chance.shuffle(dealt)
    for name, place in places.items():
        if place.exists():
            continue
        aside = place.with_name(f"{place.name}.partial")
        aside.mkdir(parents=True, exist_ok=True)
        for n, (code, test) in enumerate(both):
            (aside / f"f{n:05d}x.py").write_text(code)
            (aside / f"test_f{n:05d}x.py").write_text(test if name == "aligned" else dealt[n])
        aside.rename(place)
    return places


def pairs(folder: Path, seed: int) -> Iterator[dict[str, Any]]:
    """Tests behind their own file, behind that of another test, and alone."""
    words, chance, places = encoder(folder), random.Random(6), write_pairs(folder)
    end, ids = words.end, ids_of(words)
    held_out = [[ids(document(s, 32, chance)) for _ in range(2)] for s in subjects(COUNT, seed=6)]
    for name, source, method in (("pairs", "aligned", "pair"), ("other pairs", "others", "pair"),
                                 ("files alone", "aligned", "best-fit")):  # fmt: skip
        rows = tiny.data(folder, places[source], method, length=ROW, words=words)
        place = tiny.run(folder, f"{method}-{source}-{seed}", rows, seed=seed, **RUN)
        model = tiny.trained(place)
        added = SequenceSet(folder / rows).manifest["added_tokens"]
        between = added.get(TOKEN, end)
        found: dict[str, list[float]] = {"own": [], "another": [], "nothing": []}
        for n, (code, test) in enumerate(held_out):
            other = held_out[n - COUNT // 2][0]
            for way, before in (("own", [*code, between]), ("another", [*other, between]),
                                ("nothing", [between])):  # fmt: skip
                found[way].append(loss(model, before, test))
        yield {"rows": name, "seed": seed, **{way: mean(each) for way, each in found.items()},
               "gain_of_own": gain(found["another"], found["own"])}  # fmt: skip


def tokens(folder: Path, place: Path) -> list[Ids]:
    """The token ids of each text of a JSONL file."""
    return [ids.tolist() for ids in tiny.encoder(folder).encode(tiny.texts(place))]


def fitting(documents: list[Ids]) -> list[Ids]:
    """COUNT of them, or what there is, neither very short nor very long."""
    found = [each for each in documents if 32 <= len(each) <= LONGEST]
    return random.Random(0).sample(found, min(COUNT, len(found)))


def upsampling(folder: Path, seed: int) -> Iterator[dict[str, Any]]:
    """networkx as the domain: in the last 15% of one epoch, over all of it, or never."""
    paths = tiny.files("networkx")
    domain = tiny.documents(folder, "domain", [p for i, p in enumerate(paths) if i % 4 == 1], 6000)
    library, validation = tiny.library(folder)
    base = folder / "base.jsonl"
    if not base.exists():
        lines = library.read_text(encoding="utf-8").splitlines(keepends=True)
        random.Random(0).shuffle(lines)
        with written_aside(base) as aside:
            aside.write_text("".join(lines[: len(lines) // 8]), encoding="utf-8")
    held_out = tiny.documents(folder, "domain-validation", paths[::4], 6000)
    sets = {"base": tokens(folder, validation), "domain": tokens(folder, held_out)}
    end = tiny.encoder(folder).end
    chosen = {name: fitting(each) for name, each in sets.items()}
    rows, extra = (tiny.data(folder, each, "concat", length=512) for each in (base, domain))
    for name, share, weight in (("never", 0.15, 0.0), ("late", 0.15, 0.5), ("all", 1.0, 0.075)):
        other: dict[str, Any] = {"epochs": 1, "seed": seed, "tokens_per_step": 512}
        if weight:
            other["upsampling"] = {"share": share,
                                   "domains": {"d": {"data": extra, "weight": weight}}}  # fmt: skip
        place = tiny.run(folder, f"upsampling-{name}-{seed}", rows, **other)
        model = tiny.trained(place)
        loss = {kind: mean([float(tiny.losses(model, [end], each).mean()) for each in texts])
                for kind, texts in chosen.items()}  # fmt: skip
        yield {"corpus": tiny.fingerprint(library), "domain_read": name, "share": share,
               "weight": weight, "seed": seed, **loss}  # fmt: skip


def copying(folder: Path, seed: int) -> Iterator[dict[str, Any]]:
    """A function alone, and right behind itself: what real text teaches of looking back."""
    train_on, validation = tiny.library(folder)
    end, chosen = tiny.encoder(folder).end, fitting(tokens(folder, validation))
    rows = tiny.data(folder, train_on, "concat", length=512)
    model = TINY | {"hidden_size": 128, "intermediate_size": 336, "num_attention_heads": 4,
                    "num_key_value_heads": 4}  # fmt: skip
    place = tiny.run(folder, f"copying-{seed}", rows, model=model, tokens_per_step=512, steps=2000,
                     seed=seed)  # fmt: skip
    reader = tiny.trained(place)
    alone = [loss(reader, [end], each) for each in chosen]
    behind = [loss(reader, [end, *each, end], each) for each in chosen]
    yield {"corpus": tiny.fingerprint(train_on), "seed": seed, "documents": len(chosen),
           "alone": mean(alone), "behind_itself": mean(behind),
           "gain": gain(alone, behind)}  # fmt: skip


CHECKS: dict[str, tiny.Check] = {
    "icp": icp, "knots": knots, "pairs": pairs, "upsampling": upsampling,
    "copying": copying,
}  # fmt: skip


if __name__ == "__main__":
    tiny.command(CHECKS, "what ways of building sequences teach")
