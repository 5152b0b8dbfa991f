"""Training of encoders of soft contexts: losses fall, runs go on, and what cannot be is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import lengthwise
from lengthwise.errors import LengthwiseError
from lengthwise.soft_contexts.base import Example, SoftContext, Texts
from lengthwise.soft_contexts.dolphin import CONTINUE, INSTRUCT, RESTORE, Dolphin
from lengthwise.soft_contexts.extensible import PIECES, Extensible
from lengthwise.testing.tiny import tokens
from lengthwise.training.config import TrainingError
from lengthwise.training.progress import TrainingProgress
from lengthwise.training.soft import Settings, stages_of, train
from lengthwise.training.soft_data import pair, read_pairs, require_examples, texts_of
from lengthwise.training.soft_loss import LOSSES, counted, loss_of, losses_of, soft_embeddings
from tests.chat_models import chat_model
from tests.soft_contexts.soft_cases import BOTH, DOLPHIN, EXTENSIBLE, TEXT

SMALL = Settings(steps=4, batch=4, lr=1e-2, length=24, every=2, held_out=4)
LONG = TEXT * 20


@pytest.fixture(scope="module")
def model() -> lengthwise.Model:
    return chat_model()


class Stopped(TrainingProgress):
    """Raises in a step, as a kill would end it."""

    def __init__(self, at: int) -> None:
        self.at = at

    def step(self, step: int, steps: int, record: dict[str, object]) -> None:
        if step == self.at:
            raise KeyboardInterrupt


@pytest.mark.parametrize("how", [*BOTH, replace(DOLPHIN, projector="mlp")], ids=str)
def test_training_lowers_the_loss_and_leaves_the_model_alone(
    model: lengthwise.Model, tmp_path: Path, how: SoftContext
) -> None:
    before = [each.clone() for each in model.adapted.model.parameters()]
    data = texts_of(model, [LONG], SMALL.length)
    settings = replace(SMALL, steps=20)
    outcome = train(model, data, tmp_path / "made", how, settings)
    assert outcome.encoder is not None and outcome.step == outcome.steps
    assert outcome.losses["soft"] < outcome.losses["without"] - 0.5
    log = (tmp_path / "made.run" / "log.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in log]
    assert [each["step"] for each in records[1:]] == [*range(1, outcome.steps + 1)]
    assert records[-1]["loss"] < records[1]["loss"]
    for mine, theirs in zip(model.adapted.model.parameters(), before, strict=True):
        assert torch.equal(mine, theirs) and mine.grad is None
    again = lengthwise.open_encoder(tmp_path / "made", model)
    assert again.trained["steps"] == outcome.steps
    assert again.read(LONG).ask("Who?", max_new_tokens=2).token_ids


def test_a_run_that_was_killed_goes_on_as_if_it_had_not_been(
    model: lengthwise.Model, tmp_path: Path
) -> None:
    data = texts_of(model, [LONG], SMALL.length)
    whole = train(model, data, tmp_path / "whole", EXTENSIBLE, SMALL)
    with pytest.raises(KeyboardInterrupt):
        train(model, data, tmp_path / "cut", EXTENSIBLE, SMALL, progress=Stopped(3))
    assert not (tmp_path / "cut").exists()
    rest = train(model, data, tmp_path / "cut", EXTENSIBLE, SMALL)
    assert whole.encoder is not None and rest.encoder is not None
    ids = tokens(20)
    assert torch.allclose(whole.encoder.encode(ids), rest.encoder.encode(ids), atol=1e-6)
    with pytest.raises(TrainingError, match="holds an encoder's run with batch=4 and not 5"):
        train(model, data, tmp_path / "cut", EXTENSIBLE, replace(SMALL, batch=5))
    place = tmp_path / "cut.run" / "checkpoint.safetensors"
    place.write_bytes(place.read_bytes()[:100])
    with pytest.raises(TrainingError, match="is damaged"):
        train(model, data, tmp_path / "cut", EXTENSIBLE, SMALL)


def test_the_loss_is_that_of_the_engine(model: lengthwise.Model) -> None:
    """Rows of several lengths, with tokens before, in one forward."""
    encoder = EXTENSIBLE.start(model.adapted)
    rows = [Example(tuple(tokens(9)), tuple(tokens(7, seed=1)), (1, 2, 3), 2, 2),
            Example(tuple(tokens(16)), tuple(tokens(4, seed=2)), (), 0, 4)]  # fmt: skip
    with torch.no_grad():
        soft = soft_embeddings(encoder, rows)
        found = loss_of(model.adapted, rows, soft)
    total = 0.0
    for row, embeddings in zip(rows, soft, strict=True):
        ids = torch.tensor(row.before + row.after)
        own = model.adapted.embed(ids)
        at = len(row.before)
        fed = torch.cat([own[:at], embeddings, own[at:]])
        logits = model.adapted.model(inputs_embeds=fed[None]).logits[0].detach()
        first = at + len(embeddings) + row.start
        said = torch.log_softmax(logits[first - 1 : -1], -1)
        total -= float(said.gather(1, torch.tensor(row.after[row.start :])[:, None]).sum())
    assert float(found) == pytest.approx(total, rel=1e-4)
    assert counted(rows) == 5 + 4 and counted(rows, first=1) == 5 + 3
    # The identity: what is read behind a text is what is read behind its embeddings.
    plain = Extensible(layers=0).start(model.adapted)
    known = [replace(each, ratio=1) for each in rows]
    losses = losses_of(plain, known)
    assert losses["soft"] == pytest.approx(losses["text"], rel=1e-5)
    swapped = [replace(known[0], context=known[1].context),
               replace(known[1], context=known[0].context)]  # fmt: skip
    assert losses["other"] == pytest.approx(losses_of(plain, swapped, told=["text"])["text"])


def test_stages_follow_what_there_is(model: lengthwise.Model) -> None:
    texts = Texts(((1, 2, 3),), 2)
    asked = Texts(((1, 2, 3),), 2, (Example((1,), (2,)),))
    assert stages_of(DOLPHIN, None, texts) == [RESTORE, CONTINUE]
    assert stages_of(DOLPHIN, None, asked) == [RESTORE, CONTINUE, INSTRUCT]
    assert stages_of(DOLPHIN, [CONTINUE, RESTORE], texts) == [RESTORE, CONTINUE]
    with pytest.raises(TrainingError, match="stages pieces: dolphin has restore, continue"):
        stages_of(DOLPHIN, [PIECES], texts)


def test_some_texts_are_held_out(model: lengthwise.Model) -> None:
    one = texts_of(model, [LONG], 8)
    assert one.held is not None
    assert [*one.train.ids[0], *one.held.ids[0]] == model.encode(LONG)
    many = texts_of(model, [f"text {n} " for n in range(20)], 8)
    assert many.held is not None and len(many.train.ids) == 18 and len(many.held.ids) == 2
    assert texts_of(model, [LONG], 8, held=False).held is None
    with pytest.raises(TrainingError, match="there is no text to train on"):
        texts_of(model, ["", ""], 8)


def test_pairs_are_asked_as_a_session_asks(model: lengthwise.Model, tmp_path: Path) -> None:
    found = pair(model, TEXT, "Who signed?", "Ada")
    ids = [*found.before, *found.context, *found.after]
    asked = model.encode([{"role": "user", "content": f"{TEXT}\n\nWho signed?"}])
    assert ids[: len(asked)] == asked and ids[len(asked) :] == [
        *model.encode("Ada"), *model.stop_ids()[:1],
    ]  # fmt: skip
    assert len(found.before) + len(found.context) + found.start == len(asked)
    place = tmp_path / "pairs.jsonl"
    lines = [{"context": TEXT, "question": f"Who {n}?", "answer": "Ada"} for n in range(4)]
    place.write_text("".join(json.dumps(each) + "\n" for each in lines))
    pairs = read_pairs(model, place)
    data = texts_of(model, [LONG], 24, pairs)
    settings = replace(SMALL, steps=2, held_out=1)
    outcome = train(model, data, tmp_path / "made", DOLPHIN, settings)
    assert outcome.steps == 6 and set(outcome.losses) == set(LOSSES)


def test_line_marks_that_are_none_in_json_stay_in_a_pair(
    model: lengthwise.Model, tmp_path: Path
) -> None:
    texts = {"context": "a\u2028b", "question": "c\u2029d", "answer": "e\u0085f"}
    place = tmp_path / "pairs.jsonl"
    line = json.dumps(texts, ensure_ascii=False)
    place.write_text(f"{line}\n\n{line}\n", encoding="utf-8")
    assert read_pairs(model, place) == [pair(model, *texts.values())] * 2


@pytest.mark.parametrize(
    "line", ['{"context": "a"}', "7", "{", '{"context": "a", "question": " ", "answer": "b"}']
)
def test_a_line_that_is_no_pair_is_named(
    model: lengthwise.Model, tmp_path: Path, line: str
) -> None:
    place = tmp_path / "pairs.jsonl"
    place.write_text(f"\n{line}\n")
    with pytest.raises(TrainingError, match="line 2: is no object with context, question, answer"):
        read_pairs(model, place)
    place.write_text("\n")
    with pytest.raises(TrainingError, match="holds no pairs"):
        read_pairs(model, place)
    with pytest.raises(TrainingError, match="cannot be read"):
        read_pairs(model, tmp_path / "none")


@pytest.mark.parametrize(
    "given",
    [{"steps": 0}, {"batch": 0}, {"lr": 0.0}, {"lr": float("nan")}, {"clip": 0.0}, {"length": 0},
     {"warmup": 2.0}, {"decay": -1.0}, {"held_out": -1}, {"every": 0}],
)  # fmt: skip
def test_settings_that_are_none_are_refused(given: dict[str, float]) -> None:
    with pytest.raises(TrainingError, match=f"{next(iter(given))}="):
        Settings(**given)  # type: ignore[arg-type]


def test_texts_that_are_too_short_or_too_long_are_refused_before_training(
    model: lengthwise.Model, tmp_path: Path
) -> None:
    data = texts_of(model, [LONG], 10**5)
    with pytest.raises(LengthwiseError, match="no text has the 100,000 tokens"):
        train(model, data, tmp_path / "made", DOLPHIN, SMALL)
    assert not (tmp_path / "made.run").exists()
    encoder = Dolphin(tokens=4, layers=1, chunk=64).start(model.adapted)
    long = Texts((tuple(tokens(2000)),), 700)
    with pytest.raises(TrainingError, match="more than the 512 that the model was trained to read"):
        require_examples(encoder, DOLPHIN, RESTORE, long)


def test_the_rate_rises_and_falls() -> None:
    how = Settings(steps=100, warmup=0.1, decay=0.5)
    rates = [how.rate(step, 1.0) for step in range(100)]
    assert rates[0] == pytest.approx(0.1) and max(rates) == 1.0 and rates[-1] < 0.03
