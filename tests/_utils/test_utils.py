"""The small helpers that any room uses: files written aside, names that were meant, one line."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from lengthwise._utils.cache_folder import cache_dir
from lengthwise._utils.files import ASIDE, aside_of, write_aside, write_text
from lengthwise._utils.messages import first_line, last_line
from lengthwise._utils.suggestions import closest, did_you_mean, hint, nearest
from lengthwise._utils.text_encoder import TextEncoder
from lengthwise.sequences.encoder import byte_tokenizer


def test_they_import_nothing_of_lengthwise_but_its_errors() -> None:
    folder = Path(sys.modules["lengthwise._utils"].__file__ or "").parent
    names = [f"lengthwise._utils.{path.stem}" for path in folder.glob("*.py")]
    assert len(names) > 5
    for path in folder.glob("*.py"):
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.lstrip().startswith(("from lengthwise", "import lengthwise")):
                assert "lengthwise._utils" in line or "lengthwise.errors" in line, (path, line)


def test_a_file_is_the_old_one_until_the_whole_new_one_is_there(tmp_path: Path) -> None:
    place = tmp_path / "made" / "on" / "the way.txt"
    write_text(place, "old")
    with write_aside(place, sync=True) as aside:
        assert aside.name.endswith(ASIDE) and aside.name.startswith(".")
        aside.write_text("new")
        assert place.read_text() == "old"
    assert place.read_text() == "new"
    assert os.listdir(place.parent) == [place.name]


def test_what_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    place = tmp_path / "a.txt"
    write_text(place, "old")
    with pytest.raises(KeyboardInterrupt), write_aside(place) as aside:
        aside.write_text("half")
        raise KeyboardInterrupt
    with pytest.raises(OSError), write_aside(place):
        pass  # Nothing was written, so there is nothing to give the name to.
    assert place.read_text() == "old" and os.listdir(tmp_path) == ["a.txt"]


def test_a_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "far" / "real.txt")
    write_text(link, "text")
    assert link.is_symlink() and (tmp_path / "far" / "real.txt").read_text() == "text"


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such rights there")
def test_a_file_has_the_rights_of_any_other(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    write_text(tmp_path / "aside", "")
    with write_aside(tmp_path / "tensors") as aside:
        save_file({"a": torch.zeros(2)}, aside)
    names = ("plain", "aside", "tensors")
    rights = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in names]
    assert rights[0] == rights[1] == rights[2]


def test_two_threads_write_one_file_under_names_of_their_own(tmp_path: Path) -> None:
    names = [aside_of(tmp_path / "a")]
    other = threading.Thread(target=lambda: names.append(aside_of(tmp_path / "a")))
    other.start()
    other.join()
    assert len(set(names)) == 2


@pytest.mark.parametrize(
    ("word", "meant"),
    [("yarm", "yarn"), ("YARN", "yarn"), ("d", "D"), ("pj", "pi"), ("zzz", None), ("", None)],
)
def test_the_nearest_name_is_found_whatever_its_capitals(word: str, meant: str | None) -> None:
    assert closest(word, ["yarn", "pi", "D"]) == meant


def test_refusals_end_with_what_was_meant_or_what_there_is() -> None:
    names = ["yarn", "pi"]
    assert did_you_mean("yarm", names, ".") == "; did you mean 'yarn'?"
    assert did_you_mean("zzz", names, ".") == "." and did_you_mean("zzz", names) == ""
    assert nearest("yarm", names) == "; did you mean 'yarn'?"
    assert nearest("zzz", names) == "; known are yarn, pi"
    assert nearest("zzz", []) == ""
    assert hint("yarm", names) == "; did you mean 'yarn'? allowed: yarn, pi"
    assert hint("zzz", iter(names)) == "; allowed: yarn, pi"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("one\ntwo"), "one"), (ValueError("\n  one \n"), "one"),
        (ValueError(), "ValueError"), (KeyError("a"), "'a'"),
    ],
)  # fmt: skip
def test_an_error_is_told_in_one_line(error: Exception, line: str) -> None:
    assert first_line(error) == line


def test_a_program_is_told_by_its_last_line() -> None:
    assert last_line("warning\nerror: no\n\n", "nothing") == "error: no"
    assert last_line(" \n", "nothing") == "nothing"


def test_the_cache_is_where_the_user_says_or_the_platform(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LENGTHWISE_CACHE", "~/elsewhere")
    assert cache_dir() == Path.home() / "elsewhere"
    monkeypatch.delenv("LENGTHWISE_CACHE")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert cache_dir() == Path("/caches/lengthwise")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_dir() == Path.home() / ".cache" / "lengthwise"
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", "/local")
    assert cache_dir() == Path("/local/lengthwise")


def test_texts_are_embedded_by_the_mean_or_by_the_first_state(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=257, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16, max_position_embeddings=8,
    )  # fmt: skip
    BertModel(config).save_pretrained(tmp_path)
    PreTrainedTokenizerFast(
        tokenizer_object=byte_tokenizer(), eos_token="<|endoftext|>"
    ).save_pretrained(tmp_path)
    texts, model = ["abcdefghijkl", "a"], BertModel.from_pretrained(tmp_path).eval()
    with torch.inference_mode():
        states = [model(torch.tensor([list(t.encode()[:8])])).last_hidden_state[0] for t in texts]
        cut = model(torch.tensor([list(b"abc")])).last_hidden_state[0].mean(0)
    encoder = TextEncoder(str(tmp_path))
    assert encoder.width == 16
    torch.testing.assert_close(encoder.embed(texts), torch.stack([s.mean(0) for s in states]))
    torch.testing.assert_close(encoder.embed(texts, longest=3)[0], cut)
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    found = TextEncoder(str(tmp_path)).embed(texts)
    torch.testing.assert_close(found, torch.stack([s[0] for s in states]))


def test_they_load_no_torch() -> None:
    code = (
        "import sys\n"
        "from lengthwise._utils import cache_folder, files, messages, progress, suggestions\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
