"""V2PE on text: filler between words and their copy in fractional steps, and what it costs."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.reproduction.harness import Found, Note, check, encode, load, reference

from lengthwise.api.model import Model
from lengthwise.evaluation.tasks.probes import probe_context

FAR_DELTAS, DELTAS = (1.0, 0.25), (1.0, 0.25, 1 / 16)
LENGTHS = (2048, 10_240)
FAR = {f"{length:,} tokens": ".3f" for length in LENGTHS}
BEHIND, NEXT, STRETCHES = 1024, 256, 3


def recipe(delta: float) -> str:
    return f"v2pe(delta={delta:g})"


def copied(model: Model, length: int, delta: float) -> tuple[float, int]:
    """The loss of words that stood before the filler, and the positions that all of it took."""
    assert model.tokenizer is not None
    probes = probe_context(reference(model), model.tokenizer, length, depths=())
    probe, (_, stop) = probes.probes[0], probes.planted[0]
    context = list(probes.context)
    session = model.read_apart([context[stop:]], recipe(delta), prefix=context[:stop])
    session.append(list(probe.suffix))
    losses = -session.score(list(probe.target))
    taken = len(session) + session.held.offset
    return float(losses[probe.skip :].mean()), taken


@check({"delta": "g", **FAR}, span={"what stands before": "", "loss of what follows": ".3f"})
def v2pe(lengths: tuple[int, ...] = LENGTHS) -> Iterator[Found]:
    """The copy probe with the filler as a marked span, at lengths within the trained 8,192 and
    beyond; and the loss of text behind a marked span that it goes on from."""
    model = load("bf16")
    for delta in FAR_DELTAS:
        found, taken = {}, {}
        for length in lengths:
            name = f"{length:,} tokens"
            found[name], taken[name] = copied(model, length, delta)
        yield {"delta": delta, **found}
        yield Note({f"positions_{delta:g}": taken})
    document = reference(model)
    begin = encode(model, "\n")
    rows: dict[str, list[float]] = {}
    for n in range(STRETCHES):
        start = n * len(document) // STRETCHES
        span = document[start : start + BEHIND]
        after = document[start + BEHIND : start + BEHIND + NEXT]
        alone = model.score([*begin, *after], prompt=2)
        rows.setdefault("nothing", []).append(-float(alone.mean()))
        for delta in DELTAS:
            session = model.read_apart([span], recipe(delta), prefix=begin)
            session.append(after[:1])
            losses = -session.score(after[1:])
            rows.setdefault(f"{BEHIND:,} tokens in steps of {delta:g}", []).append(
                float(losses.mean())
            )
    for name, losses in rows.items():
        yield (
            "span",
            {"what stands before": name, "loss of what follows": sum(losses) / len(losses)},
        )
