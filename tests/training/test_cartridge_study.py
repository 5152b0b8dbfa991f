"""Self-study for cartridges: pairs, their files, and runs that go on."""

from __future__ import annotations

import json
import math
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import lengthwise
from lengthwise.api.cartridge import initial_session
from lengthwise.testing.tiny import tokens
from lengthwise.training import beside_checkpoint, cartridge, cartridge_fit
from lengthwise.training.cartridge import Settings, Study, train
from lengthwise.training.cartridge_prompts import KINDS, seed_prompt
from lengthwise.training.cartridge_rows import Row, load_rows, save_rows
from lengthwise.training.cartridge_study import Pair, SelfStudy, read_pairs
from lengthwise.training.config import TrainingError
from lengthwise.training.log import read_log
from tests.chat_models import TEMPLATE
from tests.training.cartridge_cases import CORPUS, SETTINGS, STUDY, talker


@pytest.fixture(scope="module")
def model() -> lengthwise.Model:
    return talker()


@pytest.fixture(scope="module")
def rows(model: lengthwise.Model) -> list[Row]:
    study = SelfStudy(model, CORPUS, STUDY)
    return study.teach([*study.converse(0), *study.converse(1)])


@pytest.mark.parametrize("template", [TEMPLATE, None], ids=["template", "text"])
def test_a_batch_is_about_one_chunk_and_depends_on_its_number(template: str | None) -> None:
    model = talker(template=template)
    study = SelfStudy(model, CORPUS, STUDY)
    first, again, second = study.converse(0), study.converse(0), study.converse(1)
    assert first == again and first != second
    assert len({pair.chunk for pair in first}) == 1 and len(first) == 3
    start, stop = first[0].chunk
    assert 20 <= stop - start <= 40
    other = SelfStudy(model, CORPUS, replace(STUDY, seed=1)).converse(0)
    assert other != first
    assert all(pair.kind in KINDS and pair.question for pair in first)


def test_the_teacher_sees_the_chunk_and_says_what_it_thinks(model: lengthwise.Model) -> None:
    study = SelfStudy(model, CORPUS, STUDY)
    pairs = study.converse(0)
    for pair, row in zip(pairs, study.teach(pairs), strict=True):
        before = study._system(pair.chunk)
        log_probs = model.score([*before, *row.ids])
        answer = log_probs[len(before) + row.start :]
        assert row.ids[row.start + 1 :] == pair.answer_ids
        # Greedy, but for letters that this model may not say.
        for n, token in enumerate(pair.answer_ids):
            mine = dict(zip(row.top_ids[n].tolist(), row.top_log_probs[n].tolist(), strict=True))
            if token in mine:
                assert mine[token] == pytest.approx(float(answer[n]), abs=1e-4)
        assert row.top_ids.shape == (len(pair.answer_ids) + 1, 20)
        assert bool((row.top_log_probs.diff(dim=1) <= 0).all())
        assert bool((row.top_log_probs.exp().sum(1) <= 1 + 1e-5).all())


def test_pairs_are_gone_on_with_and_more_may_be_made(
    model: lengthwise.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, study = tmp_path / "pairs", SelfStudy(model, CORPUS, STUDY)
    whole = study.collect(folder)
    assert len(whole) == 6 and len(read_pairs(folder)) == 6
    names = sorted(each.name for each in folder.iterdir())
    assert names == [
        "batch-000000.jsonl", "batch-000000.safetensors",
        "batch-000001.jsonl", "batch-000001.safetensors", "study.json",
    ]  # fmt: skip
    # Killed between the two files of a batch: it is made again, to the byte.
    last = folder / "batch-000001.safetensors"
    before = last.read_bytes()
    last.unlink()
    (folder / ".batch-000001.safetensors.7.aside").write_bytes(b"half")
    again = study.collect(folder)
    assert last.read_bytes() == before and not list(folder.glob("*.aside"))
    more = SelfStudy(model, CORPUS, replace(STUDY, pairs=8)).collect(folder)
    for mine, theirs in zip(more, again, strict=False):
        assert mine.ids == theirs.ids and torch.equal(mine.top_log_probs, theirs.top_log_probs)
    monkeypatch.setattr(SelfStudy, "converse", None)
    assert len(study.collect(folder)) == 6


def test_what_is_wrong_with_a_folder_of_pairs_is_one_line(
    model: lengthwise.Model, tmp_path: Path
) -> None:
    folder, study = tmp_path / "pairs", SelfStudy(model, CORPUS, STUDY)
    study.collect(folder)
    with pytest.raises(TrainingError, match="seed=0 and not 1"):
        SelfStudy(model, CORPUS, replace(STUDY, seed=1)).collect(folder)
    with pytest.raises(TrainingError, match="holds self-study with corpus="):
        SelfStudy(model, CORPUS + " x", STUDY).collect(folder)
    with pytest.raises(TrainingError, match="fingerprint="):
        SelfStudy(talker(seed=1), CORPUS, STUDY).collect(folder)
    place = folder / "batch-000000.safetensors"
    place.write_bytes(place.read_bytes()[:-20])
    with pytest.raises(TrainingError, match=r"batch-000000.safetensors is damaged.*delete it"):
        study.collect(folder)
    place.unlink()
    study.collect(folder)
    (folder / "batch-000000.jsonl").write_text("{")
    with pytest.raises(TrainingError, match="batch-000000.jsonl is damaged"):
        read_pairs(folder)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "x").touch()
    with pytest.raises(TrainingError, match="holds something else than self-study"):
        study.collect(tmp_path / "other")


def test_line_marks_that_are_none_in_json_stay_in_a_pair(tmp_path: Path) -> None:
    pair = Pair("question", (0, 9), "a\u2028b", "c\u0085d", (1, 2))
    (tmp_path / "batch-000000.safetensors").touch()
    line = json.dumps(pair.record(), ensure_ascii=False)
    (tmp_path / "batch-000000.jsonl").write_text(f"{line}\n{line}\n", encoding="utf-8")
    assert read_pairs(tmp_path) == [pair, pair]


@pytest.mark.parametrize(
    ("name", "change"),
    [("starts", lambda t: t + 999), ("top_ids", lambda t: t + 9999), ("ids", lambda t: t - 999),
     ("top_log_probs", lambda t: t * math.nan), ("top_log_probs", lambda t: -t),
     ("top_log_probs", lambda t: t[:-1]), ("lengths", lambda t: t * 0), ("ids", None)],
)  # fmt: skip
def test_hostile_rows_are_one_line(rows: list[Row], tmp_path: Path, name: str, change: Any) -> None:
    path = tmp_path / "rows.safetensors"
    save_rows(path, rows)
    assert [row.ids for row in load_rows(path, 300)] == [row.ids for row in rows]
    held = {key: tensor.clone() for key, tensor in load_file(path).items()}
    if change is None:
        del held[name]
    else:
        held[name] = change(held[name]).contiguous()
    save_file(held, path, metadata={"format": "lengthwise self-study"})
    with pytest.raises(TrainingError, match="is damaged.*delete it"):
        load_rows(path, 300)


def test_a_model_that_asks_nothing_is_told(
    model: lengthwise.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SelfStudy, "_say", lambda self, prompts, *a, **k: [
        lengthwise.Generation(" \n", [], None) for _ in prompts])  # type: ignore[arg-type]  # fmt: skip
    with pytest.raises(TrainingError, match="asked nothing in 3 batches"):
        SelfStudy(model, CORPUS, STUDY).collect(tmp_path / "pairs")


def test_every_kind_has_words() -> None:
    from random import Random

    said = {kind: {seed_prompt(kind, Random(n)) for n in range(40)} for kind in KINDS}
    assert all("{" not in text for texts in said.values() for text in texts)
    assert len(said["structuring"]) == 12 and len(said["question"]) == 3


# Whole runs.


def test_a_run_leaves_a_session_that_says_what_it_is(
    model: lengthwise.Model, tmp_path: Path
) -> None:
    out = tmp_path / "bees.session"
    outcome = train(model, CORPUS, out, STUDY, replace(SETTINGS, held_out=2))
    assert (outcome.step, outcome.steps, outcome.signal) == (4, 4, None)
    assert set(outcome.losses) == {"without", "cartridge", "corpus"}
    with safe_open(out, framework="pt") as file:
        said = json.loads(file.metadata()["lengthwise"])["trained"]
    assert said == {"method": "cartridge", "tokens": 24, "frozen": 1, "steps": 4, "pairs": 6,
                    "lr": 0.05}  # fmt: skip
    session = lengthwise.open_session(out, model)
    assert len(session) == 24
    assert session.ask("Who?", max_new_tokens=4).metrics.reused_tokens == 24
    plain = initial_session(model, CORPUS, 24)
    assert not torch.allclose(session.score(tokens(9)), plain.score(tokens(9)), atol=1e-3)
    log = list(read_log(tmp_path / "bees.session.run" / "log.jsonl", "train"))
    assert [each["step"] for each in log] == [1, 2, 3, 4]
    assert all(math.isfinite(each["loss"]) and each["predicted"] > 0 for each in log)
    # Losses of the log fall on equal rows, and a run that is done does nothing more.
    again = train(model, CORPUS, out, STUDY, replace(SETTINGS, held_out=2))
    assert again.losses == outcome.losses
    assert torch.equal(lengthwise.open_session(out, model).score(tokens(9)),
                       session.score(tokens(9)))  # fmt: skip


@pytest.mark.parametrize("where", [1, 2, 3])
def test_a_run_goes_on_bit_for_bit_after_a_kill(
    model: lengthwise.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: int
) -> None:
    """Killed after any step: from the checkpoint, which is every other one."""
    pairs = tmp_path / "pairs"
    train(model, CORPUS, tmp_path / "whole", STUDY, SETTINGS, pairs=pairs)
    update = cartridge_fit._update

    def killed(*arguments: Any) -> Any:
        if arguments[4] == where:
            raise KeyboardInterrupt
        return update(*arguments)

    monkeypatch.setattr(cartridge_fit, "_update", killed)
    with pytest.raises(KeyboardInterrupt):
        train(model, CORPUS, tmp_path / "cut", STUDY, SETTINGS, pairs=pairs)
    assert not (tmp_path / "cut").exists()
    if where == 1:
        # Nothing was kept yet, so another rate may begin there; and this one again.
        with pytest.raises(KeyboardInterrupt):
            train(model, CORPUS, tmp_path / "cut", STUDY, replace(SETTINGS, lr=9.0), pairs=pairs)
    monkeypatch.setattr(cartridge_fit, "_update", update)
    train(model, CORPUS, tmp_path / "cut", STUDY, SETTINGS, pairs=pairs)
    mine, theirs = (load_file(tmp_path / name) for name in ("cut", "whole"))
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
    logs = [
        [(each["step"], each["loss"]) for each in
         read_log(tmp_path / f"{name}.run" / "log.jsonl", "train")]
        for name in ("cut", "whole")
    ]  # fmt: skip
    assert logs[0] == logs[1]


def test_a_signal_ends_it_after_its_step(
    model: lengthwise.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs, out = tmp_path / "pairs", tmp_path / "made"
    update = cartridge_fit._update

    def signalled(*arguments: Any) -> Any:
        if arguments[4] == 2:
            signal.raise_signal(signal.SIGTERM)
        return update(*arguments)

    monkeypatch.setattr(cartridge_fit, "_update", signalled)
    outcome = train(model, CORPUS, out, STUDY, SETTINGS, pairs=pairs)
    assert (outcome.session, outcome.step, outcome.signal) == (None, 3, signal.SIGTERM)
    assert not out.exists()
    monkeypatch.setattr(cartridge_fit, "_update", update)
    assert train(model, CORPUS, out, STUDY, SETTINGS, pairs=pairs).step == 4
    train(model, CORPUS, tmp_path / "whole", STUDY, SETTINGS, pairs=pairs)
    mine, theirs = load_file(out), load_file(tmp_path / "whole")
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("damage", ["cut", "other run", "shapes", "something else"])
def test_a_damaged_checkpoint_is_one_line(
    model: lengthwise.Model, tmp_path: Path, damage: str
) -> None:
    train(model, CORPUS, tmp_path / "made", STUDY, SETTINGS)
    place = tmp_path / "made.run" / beside_checkpoint.NAME
    held = {name: t.clone() for name, t in load_file(place).items()}
    with safe_open(place, framework="pt") as file:
        metadata = file.metadata()
    if damage == "cut":
        place.write_bytes(place.read_bytes()[:-9])
    elif damage == "other run":
        state = json.loads(metadata["state"]) | {"run": "x"}
        save_file(held, place, metadata=metadata | {"state": json.dumps(state)})
    elif damage == "shapes":
        held["exp_avg.0"] = held["exp_avg.0"][:, 1:].contiguous()
        save_file(held, place, metadata=metadata)
    else:
        save_file(held, place)
    with pytest.raises(TrainingError, match=r"checkpoint.safetensors is damaged.*train anew"):
        train(model, CORPUS, tmp_path / "made", STUDY, SETTINGS)


def test_another_run_in_a_folder_is_refused_with_what_differs(
    model: lengthwise.Model, tmp_path: Path
) -> None:
    out = tmp_path / "made"
    train(model, CORPUS, out, STUDY, replace(SETTINGS, steps=1))
    for other, said in ((replace(SETTINGS, steps=2), "steps=1 and not 2"),
                        (replace(SETTINGS, steps=1, lr=0.1), "lr=0.05 and not 0.1")):  # fmt: skip
        with pytest.raises(TrainingError, match=said):
            train(model, CORPUS, out, STUDY, other)
    with pytest.raises(TrainingError, match="recipe=full and not lookup"):
        train(model, CORPUS, out, STUDY, replace(SETTINGS, steps=1), recipe="lookup")
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "mine").touch()
    with pytest.raises(TrainingError, match="holds something else than a cartridge's run"):
        train(model, CORPUS, out, STUDY, SETTINGS, work=tmp_path / "x")
    (tmp_path / "made.run" / "run.json").write_text("[]")
    with pytest.raises(TrainingError, match=r"run.json is damaged"):
        train(model, CORPUS, out, STUDY, replace(SETTINGS, steps=1))


def test_pairs_without_room_for_an_answer_are_told(model: lengthwise.Model, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="max_length=2: no question leaves room"):
        train(model, CORPUS, tmp_path / "made", STUDY, replace(SETTINGS, max_length=2))
    short = Settings(tokens=64, frozen=30)
    with pytest.raises(TrainingError, match="frozen=30 of 19 tokens: none is trained"):
        train(model, "Ada1 bees.", tmp_path / "x", STUDY, short)
    assert not (tmp_path / "x.run").exists()


@pytest.mark.parametrize(
    ("kind", "wrong", "said"),
    [(Settings, {"tokens": 0}, "tokens=0"), (Settings, {"batch": 0}, "batch=0"),
     (Settings, {"steps": 0}, "steps=0"), (Settings, {"lr": math.nan}, "lr=nan"),
     (Settings, {"lr": 0.0}, "lr=0.0"), (Settings, {"tokens": 4, "frozen": 4}, "frozen=4"),
     (Settings, {"held_out": -1}, "held_out=-1"), (Study, {"pairs": 0}, "pairs=0"),
     (Study, {"min_chunk": 9, "max_chunk": 8}, "must not be larger"),
     (Study, {"kinds": ("x",)}, "allowed are structuring"), (Study, {"kinds": ()}, "at least one")],
)  # fmt: skip
def test_wrong_settings_are_one_line(kind: Any, wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(TrainingError, match=said):
        kind(**wrong)


def test_defaults_are_those_of_the_released_script() -> None:
    """HazyResearch/cartridges: scripts/longhealth_train.py and longhealth_synthesize.py."""
    settings, study = Settings(), Study()
    assert (settings.tokens, settings.lr, settings.batch, settings.together) == (2048, 0.02, 64, 4)
    assert (settings.frozen, settings.max_length, settings.seed) == (1, 1024, 42)
    assert (study.pairs, study.batch, study.min_chunk, study.max_chunk) == (512, 16, 512, 4096)
    assert (study.question_tokens, study.answer_tokens, study.top) == (512, 1024, 20)
    assert study.temperature == 0.6 and cartridge.PAPER.arxiv == "2506.06266"
