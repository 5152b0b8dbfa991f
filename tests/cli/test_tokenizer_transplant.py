"""`lengthwise tokenizer transplant`: from a model and a tokenizer to a folder that loads."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from lengthwise.training import continued
from lengthwise.training.continued import Continued
from lengthwise.training.trainer import Outcome
from tests.bad_world import make_world
from tests.called import called
from tests.tokenization.transplant.tiny_pairs import OTHER, byte_level, model_of

RUN = ("tokenizer", "transplant", "talker")


@pytest.fixture(scope="module")
def first_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("first")
    make_world(place)
    byte_level(OTHER, 380, ("<|eot|>",), template=False).save_pretrained(place / "new_tok")
    (place / "long.txt").write_text(OTHER * 10)
    return place


@pytest.fixture
def world(first_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("talker", "model", "texts", "new_tok"):
        shutil.copytree(first_world / name, tmp_path / name)
    for name in ("doc.txt", "long.txt"):
        shutil.copy(first_world / name, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def steps(out: str, *more: str, by: str = "mean", **changes: str) -> tuple[str, ...]:
    """The words of a run of two steps that writes `out`, with some options changed."""
    options = {"steps": "2", "length": "16", "rows": "2", "learn": "long.txt", **changes}
    given = [word for name, value in options.items() for word in (f"--{name}", value)]
    return (*RUN, *(more or ("new_tok",)), "-o", out, "--by", by, *given)


def test_a_transplant_is_a_model_that_writes(world: Path) -> None:
    words = (*RUN, "new_tok", "-o", "made", "--by", "tokenadapt_own(k=2)", "--text", "long.txt")
    status, out, err = called(*words)
    assert status == 0, err
    assert "rows copied" in out and "made by tokenadapt_own(k=2)" in out
    assert out.count("bits a byte") == 2
    assert sorted(each.name for each in world.glob("made*")) == ["made"]
    tokenizer = AutoTokenizer.from_pretrained("made")
    model = AutoModelForCausalLM.from_pretrained("made")
    assert model.config.vocab_size % 128 == 0 and len(tokenizer) <= model.config.vocab_size
    assert (
        tokenizer.encode(OTHER)[:20]
        == byte_level(OTHER, 380, ("<|eot|>",), False).encode(OTHER)[:20]
    )
    status, said, err = called("run", "hi", "-m", "made", "--max-new-tokens", "2")
    assert status == 0, err
    # A second one takes the place of the first: it is ours. What others put there is theirs.
    (world / "made" / "notes.txt").write_text("mine")
    assert called(*words)[:2] == (0, out)
    assert (world / "made" / "notes.txt").read_text() == "mine"


def test_more_tokens_and_steps_on_a_text(world: Path) -> None:
    words = (*RUN, "-o", "made", "--extend", "20", "--learn", "long.txt", "--text", "long.txt",
             "--steps", "3", "--length", "16", "--rows", "2", "--lr", "0.01", "--train",
             "embeddings", "--json")  # fmt: skip
    status, out, err = called(*words)
    assert status == 0, err
    told = json.loads(out)
    losses = told["losses"]
    assert losses["trained"]["bits_a_byte"] < losses["after"]["bits_a_byte"]
    assert losses["after"]["tokens"] < losses["before"]["tokens"] == losses["before"]["bytes"]
    assert (told["made"], told["tokens"]) == (20, told["tokens_before"] + 20)
    assert (world / "made" / "model.safetensors").is_file()
    assert json.loads((world / "made" / "transplanted.json").read_text())["extend"] == 20
    # Nothing of the run is left, and the same command gives the same.
    assert not (world / "made.run").exists()
    assert json.loads(called(*words)[1])["losses"] == losses


def test_fewer_tokens(world: Path) -> None:
    assert called(*RUN, "new_tok", "-o", "whole")[0] == 0
    status, out, err = called(
        "tokenizer", "transplant", "whole", "-o", "part", "--trim", "--learn", "doc.txt",
        "--text", "doc.txt", "--multiple", "1", "--json",
    )  # fmt: skip
    assert status == 0, err
    told = json.loads(out)
    assert told["made"] == 0 and told["tokens"] < told["tokens_before"]
    before, after = told["losses"]["before"], told["losses"]["after"]
    assert (before["tokens"], before["bytes"]) == (after["tokens"], after["bytes"])


def test_a_network_is_trained_and_asked(world: Path) -> None:
    train = ("tokenizer", "hypernetwork", "talker", "long.txt", "-o", "some.network", "--identity",
             "2", "--steps", "2", "--batch", "1", "--length", "64", "--vocabulary", "300",
             "--layers", "1")  # fmt: skip
    status, out, err = called(*train)
    assert status == 0, err
    assert "some.network: " in out and "nats a byte" in out
    by = ("--by", "zett(path=some.network)")
    status, out, err = called(*RUN, "new_tok", "-o", "made", *by)
    assert status == 0, err
    assert "made by zett" in out


def test_models_of_others_stay(world: Path) -> None:
    for words, told in (
        (("-o", "model"), "--force"),
        (("-o", "texts", "--force"), "something else than a model"),
        (("-o", "talker", "--force"), "read by the same call"),
    ):
        before = sorted((world / words[1]).iterdir())
        status, _, err = called(*RUN, "new_tok", *words)
        assert status == 2 and told in err
        assert sorted((world / words[1]).iterdir()) == before
    assert called(*RUN, "new_tok", "-o", "model", "--force")[0] == 0
    assert (world / "model" / "transplanted.json").is_file()


def test_the_embedded_tokenizer_is_the_default_models_and_not_the_models_own(world: Path) -> None:
    status, out, err = called(*RUN, "embedded", "-o", "made", "--by", "random")
    assert status == 0, err
    assert out.startswith("made: 49,152 tokens (")


@pytest.fixture
def stopped(world: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A world with a run that a signal stopped before its first step."""
    with monkeypatch.context() as changed:
        changed.setattr(
            continued, "go_on", lambda *_: Outcome(world / "made.run" / "run", 0, 2, signal=2)
        )
        status, out, err = called(*steps("made"))
    assert (status, out) == (130, "") and "the same command goes on" in err
    assert not (world / "made").exists() and (world / "made.run").is_dir()
    return world


def test_a_stopped_run_goes_on_for_the_same_command_alone(stopped: Path) -> None:
    for words, told in (
        (steps("made", steps="4"), "--steps 2 and not 4"),
        (steps("made", by="random"), "--by Mean() and not"),
        (steps("made", learn="doc.txt"), "another --learn"),
    ):
        status, _, err = called(*words)
        assert status == 2 and told in err and "--work" in err
        assert "made.run to begin anew" in err and "--out" not in err
    assert called(*steps("whole"))[0] == 0
    # By its full name it is the same folder.
    assert called(*steps(str(stopped / "made")))[0] == 0
    one, other = (stopped / name / "model.safetensors" for name in ("made", "whole"))
    assert one.read_bytes() == other.read_bytes() and not list(stopped.glob("*.run"))


def test_a_stopped_run_is_none_of_another_model(stopped: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = stopped / "talker" / "model.safetensors"
    tensors = load_file(weights)
    save_file({name: each * 2 for name, each in tensors.items()}, weights, {"format": "pt"})
    status, _, err = called(*steps("made"))
    assert status == 2 and "another MODEL" in err


def test_a_finished_run_is_not_taken_for_that_of_other_rows(world: Path) -> None:
    made = []
    for by in ("mean", "random"):
        assert called(*steps("made", by=by))[0] == 0
        made.append((world / "made" / "model.safetensors").read_bytes())
    assert made[0] != made[1]


def test_work_folders_of_others_stay(world: Path) -> None:
    (world / "mine" / "start").mkdir(parents=True)
    (world / "mine" / "start" / "thesis.txt").write_text("years of work")
    (world / "out").mkdir()
    for work, told in (
        ("mine", "something else"), ("out", "neither may lie in the other"),
        ("out/below", "neither may lie in the other"), ("talker", "read by the same call"),
    ):  # fmt: skip
        status, _, err = called(*steps("out", work=work))
        assert status == 2 and told in err
    assert (world / "mine" / "start" / "thesis.txt").read_text() == "years of work"
    status, _, err = called(*steps("out", learn="texts/a.txt", work="texts"))
    assert status == 2 and "a.txt lies in it" in err
    assert not list((world / "out").iterdir())


def test_rows_longer_than_the_text_are_refused_and_leave_nothing(world: Path) -> None:
    status, _, err = called(*steps("made", length="100000"))
    assert status == 2 and "smaller --length" in err and "max" not in err
    assert not list(world.glob("made*"))
    assert called(*steps("made"))[0] == 0


def test_options_of_steps_are_refused_without_them(world: Path) -> None:
    for name, value in {**vars(Continued()), "work": "w"}.items():
        if name != "steps":
            status, _, err = called(*RUN, "new_tok", "-o", "made", f"--{name}", str(value))
            assert status == 2 and f"--{name} is for --steps" in err


def test_what_cannot_be_done_is_refused_before_a_model_is_loaded(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lengthwise.models.load.load_pretrained", lambda *_: pytest.fail("loaded"))
    (world / "l.txt").write_text("the house " * 50)
    for words, said in (
        (("--trim", "--learn", "l.txt", "--by", "mean"), "--by makes rows of new tokens"),
        (("--extend", "9", "--learn", "-", "--steps", "2"), "--learn - is read once"),
        (("new_tok", "--learn", "none.txt", "--steps", "2"), "no file or folder none.txt"),
    ):
        status, _, err = called(*RUN, *words, "-o", "made")
        assert status == 2 and said in err
        assert not list(world.glob("made*"))


def test_the_working_folder_and_a_link_may_be_written(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("here", "real"):
        (world / name).mkdir()
    (world / "link").symlink_to("real")
    assert called(*RUN, "new_tok", "-o", "link", "--by", "mean")[0] == 0
    assert (world / "link").is_symlink() and (world / "real" / "config.json").is_file()
    monkeypatch.chdir(world / "here")
    words = steps(".", str(world / "new_tok"), learn=str(world / "long.txt"))
    status, out, err = called(*(str(world / each) if each == "talker" else each for each in words))
    assert status == 0 and out.startswith(".: "), err
    assert Path("config.json").is_file() and not (world / "here.run").exists()


@pytest.fixture
def marked(world: Path) -> str:
    """A model that ends with <end>, or with <turn>, and does not know <|endoftext|>."""
    own = byte_level()
    model = model_of(own)
    model.generation_config.eos_token_id = [own.eos_token_id, own.get_vocab()["<turn>"]]
    model.save_pretrained("marked")
    own.save_pretrained("marked")
    return "marked"


@pytest.mark.parametrize(("specials", "end"), [("model", "<end>"), ("new", "<|endoftext|>")])
def test_documents_end_with_a_token_that_the_model_knows(
    world: Path, marked: str, monkeypatch: pytest.MonkeyPatch, specials: str, end: str
) -> None:
    byte_level(OTHER, 300, ("<|endoftext|>",), template=False).save_pretrained("other_tok")
    given: list[Any] = []

    def go_on(*arguments: Any) -> Outcome:
        given.extend(arguments)
        return Outcome(world, 0, 2, signal=2)

    monkeypatch.setattr(continued, "go_on", go_on)
    words = [marked if each == "talker" else each for each in steps("made", "other_tok")]
    assert called(*words, "--specials", specials)[0] == 130
    assert given[-1] == end


def test_what_settings_lose_is_told_apart(marked: str) -> None:
    words = ("tokenizer", "transplant", marked, "new_tok", "-o", "made", "--by", "mean")
    out = called(*words, "--specials", "new")[1]
    assert "settings that lost some of their tokens: eos_token_id\n" in out
    assert "settings whose token is gone, none now: pad_token_id\n" in out
    said = json.loads(called(*words, "--json")[1])
    assert (said["settings_gone"], said["settings_partly"], said["strange"]) == ([], [], 1)
    assert "whose rows are the mean of all: 1\n" in called(*words)[1]
