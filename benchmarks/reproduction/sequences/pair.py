"""CAT-LM: a file with its own test against one with another's, and against both alone.

On the made-up documents of subjects.py.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

from benchmarks.reproduction import tiny
from benchmarks.reproduction.harness import Found, check
from benchmarks.reproduction.sequences.subjects import document, encoder, ids_of, subjects
from benchmarks.reproduction.sequences.taught import COUNT, ROW, RUN, gain, loss, mean

from lengthwise.sequences.builders.pair import TOKEN
from lengthwise.sequences.store import SequenceSet


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


@check({"trained on": "", "its own code": ".2f", "another's code": ".2f", "nothing": ".2f",
        "gain of its own over another's": ".2f"})  # fmt: skip
def pair(folder: Path, seed: int = 0) -> Iterator[Found]:
    """Tests behind their own file, behind that of another test, and alone."""
    words, chance, places = encoder(folder), random.Random(6), write_pairs(folder)
    end, ids = words.end, ids_of(words)
    held_out = [[ids(document(s, 32, chance)) for _ in range(2)] for s in subjects(COUNT, seed=6)]
    for name, source, method in (("`pair`", "aligned", "pair"),
                                 ("`pair`, tests dealt anew", "others", "pair"),
                                 ("`best-fit`, files alone", "aligned", "best-fit")):  # fmt: skip
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
        yield {
            "trained on": name, "its own code": mean(found["own"]),
            "another's code": mean(found["another"]), "nothing": mean(found["nothing"]),
            "gain of its own over another's": gain(found["another"], found["own"]),
        }  # fmt: skip
