"""V2PE on text: filler between words and their copy in fractional steps, and what it costs."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.reproduction.harness import Found, check, encode, load, reference

from lengthwise.api.model import Model
from lengthwise.evaluation.tasks.probes import probe_context

FAR_DELTAS, DELTAS = (1.0, 0.25), (1.0, 0.25, 1 / 16)
LENGTHS = (4096, 16_384)
NEXT = 128


def recipe(delta: float) -> str:
    return f"v2pe(delta={delta:g})"


def copied(model: Model, length: int, delta: float) -> tuple[float, int]:
    """The loss of words that stood before the filler, and the positions that all of it took."""
    assert model.tokenizer is not None
    probes = probe_context(reference(model), model.tokenizer, length, depths=(0.5,))
    probe, (_, stop) = probes.probes[0], probes.planted[0]
    context = list(probes.context)
    session = model.read_apart([context[stop:]], recipe(delta), prefix=context[:stop])
    session.append(list(probe.suffix))
    losses = -session.score(list(probe.target))
    taken = len(session) + session.held.offset
    return float(losses[probe.skip :].mean()), taken


@check(
    {"tokens": ",", "delta": "g", "positions": ",", "loss of the copy": ".3f"},
    span={"what stands before": "", "loss of what follows": ".3f"},
)
def v2pe(
    lengths: tuple[int, ...] = LENGTHS, behind: int = 1024, stretches: int = 4
) -> Iterator[Found]:
    """The copy probe with the filler as a marked span, at lengths within the trained 8,192 and
    beyond; and the loss of text behind a marked span that it goes on from."""
    model = load("bf16")
    for length in lengths:
        for delta in FAR_DELTAS:
            loss, taken = copied(model, length, delta)
            row = {"tokens": length, "delta": delta, "positions": taken}
            yield {**row, "loss of the copy": loss}
    document = reference(model)
    begin = encode(model, "\n")
    rows: dict[str, list[float]] = {}
    for n in range(stretches):
        start = n * len(document) // stretches
        span = document[start : start + behind]
        after = document[start + behind : start + behind + NEXT]
        alone = model.score([*begin, *after], prompt=2)
        rows.setdefault("nothing", []).append(-float(alone.mean()))
        for delta in DELTAS:
            session = model.read_apart([span], recipe(delta), prefix=begin)
            session.append(after[:1])
            losses = -session.score(after[1:])
            rows.setdefault(f"{behind:,} tokens in steps of {delta:g}", []).append(
                float(losses.mean())
            )
    for name, losses in rows.items():
        yield (
            "span",
            {"what stands before": name, "loss of what follows": sum(losses) / len(losses)},
        )
