"""`lengthwise calibrate`: what some methods need to know of a model, measured once."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from lengthwise._utils.outputs import HEAD, Output, check_outputs
from lengthwise.cli.arguments import COUNT, WHOLE, Place, Real, force_option
from lengthwise.cli.bars import Bar
from lengthwise.cli.calibrators import CALIBRATORS, Asked, Calibrator
from lengthwise.cli.main import ModelChoice, model_options
from lengthwise.errors import LengthwiseError
from lengthwise.recipes.files import files_of

if TYPE_CHECKING:
    from lengthwise.api.model import Model

# Texts that the target writes for an acceptance head, tokens of each, and of what they go on from.
TEXTS, WRITTEN, READ = 24, 96, 160
# Of the texts that a router is trained on, those that its threshold is chosen on.
HELD_OUT = 6
# Texts that sets of layers are tried on, and new tokens of each.
TRIED_TEXTS, TRIED = 4, 32


@click.command()
@click.argument("kind")
@click.option("--draft", default="layers", show_default=True, help="the drafter of specdec's head")
@click.option("--temperature", default=0.0, show_default=True, type=Real(0),
              help="specdec will run at")  # fmt: skip
@click.option("-o", "--out", type=Place(), help="file of specdec's head or r2r's router")
@force_option("acceptance head or token router")
@click.option("--skip", default=0.2, show_default=True, type=Real(0, 1),
              help="share of the inner layers that guesses leave out, for layers")  # fmt: skip
@click.option("--trials", default=100, show_default=True, type=COUNT,
              help="sets that are tried, for layers")  # fmt: skip
@click.option("--codes", default=4096, show_default=True, type=COUNT,
              help="codes of each key head, for a2ats")  # fmt: skip
@click.option("--position", default=2048, show_default=True, type=WHOLE,
              help="at which a2ats scores queries")  # fmt: skip
@click.option("--large", help="r2r's larger model: folder, GGUF file or hub name")
@click.option("--width", default=128, show_default=True, type=COUNT,
              help="of r2r's router; the paper's is 1024")  # fmt: skip
@click.option("--blocks", default=2, show_default=True, type=COUNT,
              help="of r2r's router; the paper's has 6")  # fmt: skip
@click.option("--text", help="what r2r is trained on; none: Python's reference")
@model_options
def calibrate(
    kind: str, draft: str, temperature: float, out: Path | None, force: bool, skip: float,
    trials: int, codes: int, position: int, large: str | None, width: int, blocks: int,
    text: str | None, choice: ModelChoice,
) -> None:  # fmt: skip
    """Measure KIND on a model, once. layers: which of its layers guesses can do without, printed
    as layers(skip=...). razor, duo: its retrieval heads, kept in the cache; those of duo and lserve
    by gates that are trained, which takes minutes. matryoshka: bases of keys and values, trained
    for minutes, too. minference: the attention pattern of every head, tidal: how alike its layers
    are in what they attend to, a2ats: codebooks of its keys; kept there too. specdec: an
    acceptance head for a drafter that runs a model, written to a file for specdec(head=FILE).
    r2r: a router between the model and a larger one, for r2r(model=LARGE, router=FILE)."""
    found = CALIBRATORS.get(kind)
    if found is None:
        known = ", ".join(CALIBRATORS)
        raise LengthwiseError(f"nothing to calibrate for {kind!r}; allowed is {known}")
    if found.writes and out is None:
        raise LengthwiseError(f"give the {found.writes} a file: --out FILE")
    _refuse_unused(found)
    if "large" in found.options and not large:
        raise LengthwiseError(f"calibrate {kind} needs the larger model: --large PATH")
    read = [choice.model, *(files_of([draft]) if "draft" in found.options else []), large, text]
    check_outputs([Output("--out", out, HEAD)], [each for each in read if each], force)
    loaded = choice.open()
    with Bar() as bar:
        asked = Asked(
            draft, temperature, out, force, skip, trials, codes, position, large or "", width,
            blocks, text or "",
        )  # fmt: skip
        found.run(loaded, asked, bar)


def _refuse_unused(kind: Calibrator) -> None:
    """Raises LengthwiseError for an option that was given and does nothing for this kind."""
    context = click.get_current_context()
    for name in (each.name for each in fields(Asked)):
        given = context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        if given and name not in kind.options:
            users = (each.name for each in CALIBRATORS.usable().values() if name in each.options)
            raise LengthwiseError(
                f"--{name} is for calibrate {', '.join(users)}; {kind.name} has no use for it"
            )


def _layers(loaded: Model, skip: float, trials: int, bar: Bar) -> None:
    """Draft & Verify: the best set of layers over several texts, before anything is decoded."""
    from lengthwise.documents.files import read_document
    from lengthwise.engine.kv_cache.sequence import Sequence
    from lengthwise.engine.loop import prefill
    from lengthwise.methods.drafting._shared.layer_search import LayerSearch, matchness

    model = loaded.adapted
    total = len(model.layers)
    search = LayerSearch(total, int((total - 2) * skip))
    if not search.skipped:
        raise LengthwiseError(f"--skip {skip}: leaves out none of {total} layers; give more")
    ids = loaded.encode(read_document().text)
    texts = []
    for number in range(TRIED_TEXTS):
        prompt = ids[number * READ : (number + 1) * READ]
        said = loaded.generate(prompt, max_new_tokens=TRIED + 1, stop_ids=[]).token_ids
        before = Sequence(model)
        prefill(before, prompt)
        before.end_prefill()
        texts.append((before, said))
    for _ in bar.track(range(trials), "trying sets of layers", "sets"):
        kept = search.propose()
        scores = [matchness(model, before, kept, said) for before, said in texts]
        search.tell(sum(scores) / len(scores))
    click.echo(
        f'layers(skip="{search.left_out}"): {search.skipped} of {total} layers left out, '
        f"{search.score:.0%} of {TRIED * TRIED_TEXTS} tokens chosen as all layers choose them "
        f"(best of {search.tried} sets)"
    )


def _razor(loaded: Model, bar: Bar) -> None:
    from lengthwise.methods.calibration import calibrate_retrieval_heads, save

    bar.stage("reading repeated random tokens", 0, "tokens")
    found = calibrate_retrieval_heads(loaded.adapted, bar.reached)
    save("razor", loaded.adapted, found)
    heads = [
        (score, layer, head)
        for layer, row in enumerate(found["induction"])
        for head, score in enumerate(row)
    ]
    click.echo("strongest induction heads (layer, key head, probability on the token after):")
    for score, layer, head in sorted(heads, reverse=True)[:8]:
        click.echo(f"  {layer:3} {head:3}  {score:.3f}")


def _matryoshka(loaded: Model, bar: Bar) -> None:
    from lengthwise.methods.codecs.learned_bases import calibrate_bases, keep_bases

    bar.stage("training bases, then trying ranks", 0, "steps")
    found = calibrate_bases(loaded.adapted, progress=(bar.reached, bar.reached))
    path = keep_bases(loaded.adapted, found)
    order = found["order"]
    half = order[: len(order) // 2]
    keys = sum(kind == 0 for kind, _, _ in half)
    click.echo(f"bases of keys and values: {path.stat().st_size:,} bytes; of the first {len(half)} "
               f"losses of rank {keys} are those of keys")  # fmt: skip


def _minference(loaded: Model, bar: Bar) -> None:
    from lengthwise.methods.calibration import save
    from lengthwise.methods.selection.pattern_search import (
        KIND,
        SPACE,
        chosen_patterns,
        remember,
        search_patterns,
    )

    model = loaded.adapted
    bar.stage("reading pairs of names", 0, "tokens")
    found = search_patterns(model, bar.reached)
    save(KIND, model, found)
    remember(model, found)
    click.echo("heads that take each pattern (kind, columns, distances):")
    taken = [each for layer in model.layers for each in chosen_patterns(layer, 0.0, 0)]
    for pattern in SPACE:
        own = (pattern.kind, pattern.columns, pattern.distances)
        count = sum((each.kind, each.columns, each.distances) == own for each in taken)
        click.echo(f"  {own[0]:14} {own[1]:5} {own[2]:4}  {count}")


def _duo(loaded: Model, bar: Bar) -> None:
    from lengthwise.methods.calibration import save
    from lengthwise.methods.gates import KIND, train_gates

    bar.stage("training gates", 0, "steps")
    found = train_gates(loaded.adapted, progress=bar.reached)
    save(KIND, loaded.adapted, found)
    gates = [
        (gate, layer, head)
        for layer, row in enumerate(found["gates"])
        for head, gate in enumerate(row)
    ]
    steps, mean = len(found["mean"]), sum(gate for gate, _, _ in gates) / len(gates)
    click.echo(f"{len(gates)} gates after {steps} steps, {mean:.3f} on the mean; the largest:")
    for gate, layer, head in sorted(gates, key=lambda each: (-each[0], *each[1:]))[:8]:
        click.echo(f"  layer {layer:3}  key head {head:3}  {gate:.3f}")


def _tidal(loaded: Model, bar: Bar) -> None:
    from lengthwise.methods.calibration import save
    from lengthwise.methods.selection.recall import KIND, best_layer, measure_recall

    bar.stage("comparing what layers attend to", 0, "tokens")
    found = measure_recall(loaded.adapted)
    save(KIND, loaded.adapted, found)
    layers, recall = found["layers"], found["recall"]
    click.echo("share of a layer's top tokens that the layer before it has, and the best layer to "
               "select again behind it:")  # fmt: skip
    for at, layer in enumerate(layers[:-1]):
        best = best_layer(found, layer)
        click.echo(f"  {layer:3}  {recall[at][at + 1]:.3f}  {'-' if best is None else best:>3}")


def _a2ats(loaded: Model, codes: int, position: int, bar: Bar) -> None:
    from lengthwise.methods.selection.codebooks import calibrate_codebooks

    bar.stage("clustering keys", len(loaded.adapted.layers), "layers")
    path = calibrate_codebooks(loaded.adapted, codes, position, bar.reached)
    click.echo(f"codebooks of {codes:,} codes a key head: {path.stat().st_size:,} bytes")


def _specdec(loaded: Model, draft: str, temperature: float, out: Path, bar: Bar) -> None:
    import torch

    from lengthwise.documents.files import read_document
    from lengthwise.methods.draft_length._shared.acceptance_head import examples, save, train
    from lengthwise.recipes import parse

    target = loaded.adapted
    drafters = [each.start_drafter(target) for each in parse(draft).methods]
    if len(drafters) != 1 or not getattr(drafters[0], "runs_model", False):
        raise LengthwiseError(f"--draft {draft!r}: give one drafter that runs a model, as layers")
    # A drafter that reads through another cache of the target's asks the target itself.
    asked = getattr(drafters[0], "draft", None) or target
    ids = loaded.encode(read_document().text)
    starts = range(0, len(ids) - READ, (len(ids) - READ) // TEXTS)
    texts = []
    for start in bar.track(starts[:TEXTS], "the target writes", "texts"):
        prompt = ids[start : start + READ]
        said = loaded.generate(prompt, max_new_tokens=WRITTEN, temperature=temperature, seed=start)
        texts.append(prompt[-1:] + said.token_ids)
    head = train(asked, target, texts[2:], temperature)
    save(head, out)
    held_out = [examples(asked, target, text, temperature) for text in texts[:2]]
    states, labels = (torch.cat(parts) for parts in zip(*held_out, strict=True))
    prob = head(states.float()).softmax(-1)[:, 1]
    click.echo(
        f"{out}: of {len(labels)} guesses in texts held out {float(labels.mean()):.0%} are right; "
        f"the head expects {float(prob.mean()):.0%}, and "
        f"{float(prob[labels > 0.5].mean()):.0%} of those that are"
    )


def _r2r(loaded: Model, asked: Asked, bar: Bar) -> None:
    from lengthwise.documents.files import read_document
    from lengthwise.methods.calibration import fingerprint
    from lengthwise.methods.decoding.divergence import Places, answers, places
    from lengthwise.methods.decoding.r2r import R2R
    from lengthwise.methods.decoding.token_router import area, save, train

    small, out = loaded.adapted, _file(asked)
    large = R2R(model=asked.large).load(small)
    ids = loaded.encode(read_document(asked.text or None).text)
    if len(ids) < READ + TEXTS:
        raise LengthwiseError(
            f"--text {asked.text}: a router is trained on {TEXTS} places of a text, and this one "
            f"has {len(ids):,} tokens; give at least {READ + TEXTS}"
        )
    starts = range(0, len(ids) - READ, (len(ids) - READ) // TEXTS)[:TEXTS]
    prompts = [ids[start : start + READ] for start in starts]
    said = answers(large, prompts, WRITTEN)
    found = [
        places(small, large, *pair)
        for pair in bar.track(
            list(zip(prompts, said, strict=True)), "the larger model goes on", "texts"
        )
    ]
    kept = len(found) - HELD_OUT
    seen, held_out = Places.joined(found[:kept]), Places.joined(found[kept:])
    router = train(seen, held_out, small.embed, asked.width, asked.blocks)
    router.small, router.large = fingerprint(small), fingerprint(large)
    save(router, out)
    prob = router.probs(held_out.states, small.embed(held_out.tokens), held_out.logits)
    click.echo(
        f"{out}: at {float(held_out.differs.float().mean()):.0%} of {len(held_out)} places held "
        f"out the models differ, and {float(held_out.diverges.float().mean()):.0%} are divergent; "
        f"area under the curve {area(prob, held_out.diverges):.2f}; from {router.threshold:.3f} on "
        f"the larger model writes {float((prob >= router.threshold).float().mean()):.0%}"
    )


LAYERS = Calibrator(
    "layers",
    lambda model, asked, bar: _layers(model, asked.skip, asked.trials, bar),
    options=("skip", "trials"),
)
DUO = Calibrator("duo", lambda model, asked, bar: _duo(model, bar))
RAZOR = Calibrator("razor", lambda model, asked, bar: _razor(model, bar))
MATRYOSHKA = Calibrator("matryoshka", lambda model, asked, bar: _matryoshka(model, bar))
MINFERENCE = Calibrator("minference", lambda model, asked, bar: _minference(model, bar))
SPECDEC = Calibrator(
    "specdec",
    lambda model, asked, bar: _specdec(model, asked.draft, asked.temperature, _file(asked), bar),
    options=("draft", "temperature", "out", "force"),
    writes="acceptance head",
)
R2R = Calibrator(
    "r2r", _r2r, options=("large", "width", "blocks", "text", "out", "force"), writes="token router"
)
A2ATS = Calibrator(
    "a2ats",
    lambda model, asked, bar: _a2ats(model, asked.codes, asked.position, bar),
    options=("codes", "position"),
)
TIDAL = Calibrator("tidal", lambda model, asked, bar: _tidal(model, bar))


def _file(asked: Asked) -> Path:
    assert asked.out is not None  # The verb has asked for one.
    return asked.out
