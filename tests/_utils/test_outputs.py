"""What a call writes: never what it reads, never what is not ours unasked, and whole or not."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from pathlib import Path

import pytest

from lengthwise._utils import outputs
from lengthwise._utils.outputs import FIT, PICTURE, REPORT, Output, check_folder, check_outputs
from lengthwise.cli.arguments import Place, Renamed
from lengthwise.errors import LengthwiseError
from lengthwise.recipes.files import files_of
from tests.bad_inputs import FOLDERS, WRITTEN_TO
from tests.bad_world import make_world
from tests.called import called
from tests.generated_inputs import commands

SHELF = ("bench", "shelf", "doc.txt", "-m", "model", "-n", "1300", "--follow", "8",
         "--method", "think",
         "--share", "75")  # fmt: skip
# A call of every verb that writes a file, without the file.
WRITING = {
    "compare": ("compare", "texts/a.txt", "-m", "model", "-r", "streaming", "--max-new-tokens", "1",
                "--html", "made.html"),
    "datastore": ("datastore", "build", "doc.txt", "-m", "model", "-o", "made.store"),
    "fit": ("scaling", "fit", "runs.csv", "--law", "converged", "--bootstrap", "0", "--save",
            "made.json"),
    "fit picture": ("scaling", "fit", "runs.csv", "--law", "converged", "--bootstrap", "0", "-o",
                    "made.png"),
    "curves": ("curves", "run", "-o", "made.svg"),
    "curriculum": ("sequences", "curriculum", "--buckets", "64=100", "--tokens-per-step", "128",
                   "-o", "made.pdf"),
    "read": ("read", "doc.txt", "-m", "model", "--save", "made.session"),
    "cartridge": ("cartridge", "train", "doc.txt", "-m", "talker", "--tokens", "8", "--pairs", "2",
                  "--steps", "1", "--min-chunk", "4", "--max-chunk", "8", "--question-tokens", "4",
                  "--answer-tokens", "4", "-o", "made.session"),
    "composed": ("cartridge", "compose", "some.cartridge", "-m", "talker", "-o", "made.session"),
    "soft": ("soft", "train", "dolphin(tokens=2,layers=1)", "doc.txt", "-m", "talker", "--steps",
             "1", "--batch", "1", "--length", "32", "-o", "made.encoder"),
    "soft read": ("soft", "read", "doc.txt", "-m", "talker", "-e", "some.encoder", "--save",
                  "made.session"),
    "ranker": ("ranker", "train", "doc.txt", "-m", "talker", "--steps", "1", "--batch", "2",
               "--generated", "0", "--prefix", "16", "--suffix", "8", "--width", "8", "--layers",
               "1", "-o", "made.ranker"),
    "write": ("write", "Write of ships.", "-m", "talker", "--words", "40", "-o", "made.md"),
    "pac": ("pac", "calibrate", "examples.jsonl", "-m", "talker", "--epsilon", "0.9",
            "--max-new-tokens", "2", "-o", "made.pac"),
    "label": ("label", "items.jsonl", "Is it?", "-m", "talker", "--rounds", "1", "-o",
              "made.labels"),
    "eval": ("eval", "needle", "-m", "model", "--samples", "1", "-n", "600", "-o", "made.run"),
    "eval page": ("eval", "needle", "-m", "model", "--samples", "1", "-n", "600", "--html",
                  "made.html"),
    "eval show": ("eval", "show", "some.run", "--html", "made.html"),
    "shorten": ("sequences", "shorten", "long.jsonl", "-m", "talker", "--max-new-tokens", "8", "-o",
                "made.jsonl"),
    "eval judge": ("eval", "judge", "replies.run", "--judge", "pair", "-m", "model", "-o",
                   "made.run"),
    "batch": ("batch", "-m", "model", "requests.jsonl", "made.out"),
    "eval harness": ("eval", "toy.yaml", "-m", "model", "--limit", "1", "-o", "made.jsonl"),
    "network": ("tokenizer", "hypernetwork", "talker", "doc.txt", "--identity", "1", "--steps", "1",
                "--batch", "1", "--length", "64", "--vocabulary", "300", "--layers", "1", "-o",
                "made.network"),
    "shelf": (*SHELF, "-o", "made.jsonl"),
    "shelf picture": (*SHELF, "--picture", "made.svg"),
}  # fmt: skip
_NO_JSON = (
    "datastore",
    "read",
    "cartridge",
    "composed",
    "soft",
    "soft read",
    "shorten",
    "batch",
    "eval harness",
    "eval show",
)
JSON = tuple(name for name in WRITING if name not in _NO_JSON)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("world")
    make_world(place)
    return place


@pytest.fixture
def world(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(made, tmp_path / "world", symlinks=True)
    monkeypatch.chdir(tmp_path / "world")
    monkeypatch.setenv("LENGTHWISE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "world"


def swapped(words: tuple[str, ...], name: str) -> tuple[str, ...]:
    return (*words[:-1], name)


@pytest.mark.parametrize("verb", WRITING)
def test_a_file_of_ours_is_written_again_and_a_foreign_one_is_asked_for(
    world: Path, verb: str
) -> None:
    words = WRITING[verb]
    place = world / words[-1]
    for _ in range(2):
        status, _, err = called(*words)
        assert status == 0, err
        assert place.stat().st_size > 100
        assert not list(world.glob(".*"))
    place.write_bytes(b"years of work")
    status, _, err = called(*words)
    assert status == 2 and "--force" in err
    assert place.read_bytes() == b"years of work"
    status, _, err = called(*words, "--force")
    assert status == 0, err
    assert place.stat().st_size > 100


@pytest.mark.parametrize("verb", WRITING)
def test_a_file_of_ours_of_another_kind_is_asked_for(world: Path, verb: str) -> None:
    others = {"fit": "curves", "fit picture": "fit"}
    words = WRITING[others.get(verb, "fit")]
    assert called(*words)[0] == 0
    place = world / WRITING[verb][-1]
    (world / words[-1]).rename(place)
    before = place.read_bytes()
    status, _, err = called(*WRITING[verb])
    assert status == 2 and "--force" in err
    assert place.read_bytes() == before


@pytest.mark.parametrize("verb", JSON)
def test_an_output_is_written_beside_json_too(world: Path, verb: str) -> None:
    status, out, err = called(*WRITING[verb], "--json")
    assert status == 0, err
    assert [json.loads(line) for line in out.splitlines()]
    assert (world / WRITING[verb][-1]).is_file()


@pytest.mark.parametrize("link", ["symlink_to", "hardlink_to"])
@pytest.mark.parametrize("verb", ["compare", "datastore", "fit", "fit picture", "read", "batch"])
def test_an_input_under_another_name_stays(world: Path, verb: str, link: str) -> None:
    words = WRITING[verb]
    source = world / next(
        word for word in words if word.endswith((".txt", ".csv", ".jsonl", ".yaml"))
    )
    before = source.read_bytes()
    # A picture is refused for another suffix before: an input may have the right one as well.
    other = world / ("other" + Path(words[-1]).suffix)
    getattr(other, link)(source)
    for force in ((), ("--force",)):
        status, _, err = called(*swapped(words, other.name), *force)
        assert status == 2 and "is read by the same call" in err
        assert source.read_bytes() == before


@pytest.mark.parametrize("verb", WRITING)
def test_no_folder_is_made_for_a_file(world: Path, verb: str) -> None:
    before = sorted(world.rglob("*"))
    suffix = Path(WRITING[verb][-1]).suffix
    status, _, err = called(*swapped(WRITING[verb], f"no/such/x{suffix}"))
    assert status == 2 and "there is no folder no/such" in err
    assert sorted(world.rglob("*")) == before


def test_a_disk_that_is_full_at_the_end_leaves_the_old_file(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert called(*WRITING["fit"])[0] == 0
    before = (world / "made.json").read_bytes()
    written = Path.write_text

    def full(self: Path, text: str, **options: str) -> int:
        written(self, text[:10], **options)  # type: ignore[arg-type]
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))

    monkeypatch.setattr(Path, "write_text", full)
    status, _, err = called(*WRITING["fit"])
    assert status == 2 and "No space left" in err
    monkeypatch.undo()
    assert (world / "made.json").read_bytes() == before
    assert not list(world.glob(".*"))


def test_every_option_that_writes_is_known_to_these_tests() -> None:
    found = {
        (path, parameter.name)
        for path, command in commands()
        for parameter in command.params
        if parameter.name in WRITTEN_TO
        and isinstance(parameter.type, Place)
        and parameter.name not in FOLDERS.get(path, ())
    }
    tested = {
        (("compare",), "html"), (("datastore", "build"), "out"), (("scaling", "fit"), "save"),
        (("scaling", "fit"), "out"), (("curves",), "out"), (("sequences", "curriculum"), "out"),
        # A head takes minutes to make; its place is tested below.
        (("calibrate",), "out"), (("read",), "save"), (("cartridge", "train"), "out"),
        (("cartridge", "compose"), "out"), (("batch",), "out"),
        (("soft", "train"), "out"), (("soft", "read"), "save"),
        (("ranker", "train"), "out"), (("tokenizer", "hypernetwork"), "out"),
        (("bench", "shelf"), "out"), (("bench", "shelf"), "picture"),
        (("write",), "out"), (("label",), "out"), (("eval", "run"), "out"),
        (("eval", "run"), "html"), (("eval", "show"), "html"), (("eval", "harness"), "out"),
        (("eval", "judge"), "out"), (("sequences", "shorten"), "out"),
        (("pac", "calibrate"), "out"),
        (("tokenizer", "report"), "html"), (("tokenizer", "report"), "picture"),
    }  # fmt: skip
    assert found == tested


def test_a_head_is_refused_a_place_before_the_model_is_read(world: Path) -> None:
    words = ("calibrate", "specdec", "-m", "nope", "-o")
    assert "there is no folder" in called(*words, "no/such/head")[2]
    assert "--force" in called(*words, "doc.txt")[2]
    assert "no file or folder nope" in called(*words, "doc.txt", "--force")[2]
    assert not (world / "no").exists()


def test_a_table_of_a_drafter_makes_no_folder(world: Path) -> None:
    for recipe in ("recycling(table=no/such/x)", "osd(path=model, save=no/such/x)"):
        status, _, err = called("run", "hi", "-m", "model", "-r", recipe, "--max-new-tokens", "2")
        assert status == 2 and "there is no folder" in err
    assert not (world / "no").exists()


@pytest.mark.parametrize("fails", ["tokenise", "make_manifest"])
@pytest.mark.parametrize("kind", ["SequenceError", "disk"])
def test_a_build_that_failed_does_not_block_a_mended_one(
    world: Path, monkeypatch: pytest.MonkeyPatch, fails: str, kind: str
) -> None:
    from lengthwise.sequences import build
    from lengthwise.sequences.errors import SequenceError
    from lengthwise.sequences.files import said_plainly

    def broken(*_: object, **__: object) -> None:
        if kind == "SequenceError":
            raise SequenceError("this cannot be built")
        with said_plainly(Path("new")):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    words = ("sequences", "build", "doc.txt", "--out", "new", "-t", "bytes", "--method", "concat")
    with monkeypatch.context() as patch:
        patch.setattr(build, fails, broken)
        if fails == "make_manifest":
            # Before its first part: one that is done is worth keeping, and is kept.
            patch.setattr(build, "_entries", broken)
        status, _, err = called(*words, "--max-length", "64")
        assert status == 2, err
    assert not (world / "new" / "build.json").exists()
    # Another method, then other sources, as one who mends a command would have it.
    status, _, err = called(*words[:-1], "best-fit", "--max-length", "64")
    assert status == 0, err
    shutil.rmtree(world / "new")
    with monkeypatch.context() as patch:
        patch.setattr(build, fails, broken)
        patch.setattr(build, "_entries", broken)
        assert called(*words, "--max-length", "64")[0] == 2
    (world / "doc.txt").write_text("another text " * 99)
    status, _, err = called(*words, "--max-length", "64")
    assert status == 0, err


def test_a_build_of_nothing_leaves_nothing(world: Path) -> None:
    words = ("sequences", "build", "--out", "new", "-t", "bytes", "--method", "concat")
    assert called(*words, "empty.txt")[0] == 2
    assert not (world / "new").exists()
    status, _, err = called(*words, "doc.txt", "--max-length", "64")
    assert status == 0, err


def test_a_run_that_failed_does_not_block_a_mended_one(world: Path) -> None:
    config = (world / "run.toml").read_text()
    (world / "run.toml").write_text(config.replace('"llama"', '"lama"'))
    status, _, err = called("train", "run.toml", "-o", "fresh")
    assert status == 2 and "lama" in err
    assert not (world / "fresh").exists()
    (world / "run.toml").write_text(config)
    status, _, err = called("train", "run.toml", "-o", "fresh")
    assert status == 0, err


def test_places_are_checked_one_against_another(tmp_path: Path) -> None:
    read = tmp_path / "a.csv"
    read.write_text("x")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "b.txt").write_text("x")
    (tmp_path / "loop").symlink_to("loop")

    def refusal(*given: tuple[str, Path], force: bool = False) -> str:
        wanted = [Output(option, path, FIT) for option, path in given]
        with pytest.raises(LengthwiseError) as error:
            check_outputs(wanted, [read, tmp_path / "folder", None, "-"], force)
        return str(error.value)

    new = tmp_path / "new"
    assert "name one file" in refusal(("--a", new), ("--b", tmp_path / "folder" / ".." / "new"))
    assert "lies in" in refusal(("--a", tmp_path / "folder" / "b.txt"), force=True)
    assert "read by the same call" in refusal(("--a", tmp_path / "folder" / ".." / "a.csv"))
    assert "device" in refusal(("--a", Path("/dev/null")), force=True)
    assert "cannot be written" in refusal(("--a", tmp_path / ("x" * 255)))
    check_outputs([Output("--a", new, FIT), Output("--b", None, REPORT)], [read])
    check_outputs([Output("--a", tmp_path / "folder" / "c", FIT)], [tmp_path / "folder"])
    with pytest.raises(LengthwiseError, match=re.escape(".png, .svg, .pdf")):
        check_outputs([Output("--a", tmp_path / "new.jpg", PICTURE)])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "folder", "loop"]


@pytest.mark.parametrize("verb", WRITING)
@pytest.mark.parametrize("there", [False, True])
def test_a_link_to_an_output_stays_one(world: Path, verb: str, there: bool) -> None:
    words = WRITING[verb]
    (world / "kept").mkdir()
    link, target = world / words[-1], world / "kept" / words[-1]
    link.symlink_to(target)
    for _ in range(1 + there):
        status, _, err = called(*words)
        assert status == 0, err
    assert link.is_symlink() and target.is_file() and not target.is_symlink()
    assert [path.name for path in (world / "kept").iterdir()] == [target.name]


def test_a_folder_is_where_one_can_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "read").mkdir()
    check_folder("--out", tmp_path / "new", [tmp_path / "read"])
    check_folder("--tokens", tmp_path / "new" / "tokens", within=tmp_path / "new")
    wrong = {
        "file": "this is a file", "no/new": "there is no folder", "read": "read by the same call",
        "new/tokens": "there is no folder",
    }  # fmt: skip
    for path, told in wrong.items():
        with pytest.raises(LengthwiseError, match=told):
            check_folder("--out", tmp_path / path, [tmp_path / "read"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "read"]


def test_files_that_recipes_read_are_inputs(world: Path) -> None:
    assert files_of(["datastore(path=doc.txt) + kivi", "full", "datastore(path=nope)"]) == [
        "doc.txt"
    ]
    words = swapped(WRITING["compare"], "doc.txt")
    status, _, err = called(*words, "-r", "datastore(path=doc.txt)", "--force")
    assert status == 2 and "is read by the same call" in err


def test_one_short_spelling_means_one_thing_in_every_verb() -> None:
    meant: dict[str, set[str]] = {}
    for _, command in commands():
        for parameter in command.params:
            old = parameter.old if isinstance(parameter, Renamed) else None
            short = [each for each in parameter.opts if len(each) == 2 and each != old]
            for each in short:
                meant.setdefault(each, set()).add(max(parameter.opts, key=len))
    assert meant["-n"] == {"--length"}
    assert meant["-m"] == {"--model"}
    assert meant["-o"] == {"--out"}
    assert all(len(names) == 1 for names in meant.values()), meant


def test_old_spellings_of_sequences_build_still_work(world: Path) -> None:
    status, _, err = called("sequences", "build", "doc.txt", "--out", "new", "-m", "concat", "-n",
                            "64", "-t", "bytes")  # fmt: skip
    assert status == 0, err
    status, out, _ = called("sequences", "build", "--help")
    assert "-m," not in out and "-n," not in out and "--max-length" in out
    status, _, err = called("sequences", "build", "doc.txt", "--out", "newer")
    assert status == 2 and "'--method'" in err and "-m'" not in err


def test_marks_are_near_the_ends_of_a_file(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    mark = f'<meta name="generator" content="{outputs.MARK}">'
    page.write_text(f"<!doctype html><head>{mark}</head>" + "x" * 10**6)
    assert REPORT.ours(page)
    page.write_text(f"<p>{mark}</p>")
    assert not REPORT.ours(page)
    (tmp_path / "x.png").write_bytes(outputs.MARK.encode())
    assert not PICTURE.ours(tmp_path / "x.png")
