"""Coded sessions: every level of every recipe comes back, and what is damaged is one error."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import lengthwise
from lengthwise.api.session_codec import CacheGen, codec_of, level_of
from lengthwise.engine.kv_cache.cachegen import LEVELS
from lengthwise.errors import LengthwiseError, RecipeError, SessionError
from lengthwise.testing.tiny import tiny_model, tokens
from tests.chat_models import chat_model

TEXT, NEXT = tokens(70), tokens(12, seed=4)
LOSSY = ["cachegen(level=1)", "cachegen", "cachegen(level=3, group=1, chunk=32)"]
RECIPES = [
    "full",
    "streaming(sinks=2, window=24)",
    "snapkv(budget=50%, window=8, floor=8)",
    "kivi(bits=4, group=8, residual=16)",
    "razor(buffer=16)",
    "h2o(budget=40)",
    "self_extend(group=4, window=16)",
    "infllm(budget=32, window=16, block=4, init=2, offload=disk)",
]


@pytest.fixture(scope="module")
def model() -> lengthwise.Model:
    return lengthwise.wrap(tiny_model("llama", initializer_range=0.15, max_position_embeddings=64))


@pytest.fixture(scope="module")
def read(model: lengthwise.Model) -> lengthwise.Session:
    return model.read(TEXT, chunk=16)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "held.safetensors"


@pytest.mark.parametrize("compressed", [False, True], ids=["open", "compressed"])
@pytest.mark.parametrize("recipe", RECIPES)
def test_the_lossless_level_comes_back_to_the_byte_under_any_recipe(
    model: lengthwise.Model, path: Path, recipe: str, compressed: bool
) -> None:
    session = model.read(TEXT, recipe, chunk=16)
    if compressed:
        session.compress()
    session.save(path, "cachegen(level=lossless, chunk=32)")
    other = lengthwise.open_session(path, model)
    assert (other.recipe, other.tokens, other.lossy) == (session.recipe, session.tokens, "")
    assert other.compressed == compressed
    assert torch.equal(other.score(NEXT), session.score(NEXT))
    for each in (session, other):
        each.append(NEXT)
    assert torch.equal(other.score(NEXT), session.score(NEXT))


@pytest.mark.parametrize("family", ["gemma3_text", "deepseek_v3", "gpt_oss"])
def test_other_families_come_back_too(family: str, path: Path) -> None:
    model = lengthwise.wrap(tiny_model(family))
    session = model.read(TEXT[:40])
    session.save(path, "cachegen(level=lossless)")
    assert torch.equal(lengthwise.open_session(path, model).score(NEXT), session.score(NEXT))
    session.save(path, "cachegen(level=3)")
    assert lengthwise.open_session(path, model).lossy == "cachegen level 3"


def test_lossy_levels_are_smaller_and_say_so(
    model: lengthwise.Model, read: lengthwise.Session, path: Path
) -> None:
    plain = path.with_name("plain")
    read.save(plain)
    for codec in LOSSY:
        read.save(path, codec)
        assert path.stat().st_size < 0.6 * plain.stat().st_size
        other = lengthwise.open_session(path, model)
        assert other.lossy.startswith("cachegen level") and f"lossy ({other.lossy})" in repr(other)
        assert "changed them a little" in other.notes[0]
        assert not torch.equal(other.score(NEXT), read.score(NEXT))
        found = other.ask(NEXT, max_new_tokens=2, stop_ids=[])
        assert other.notes[0] in found.metrics.notes
        # It stays so, in a fork and in the next file.
        assert other.fork().lossy == other.lossy
        other.save(path)
        assert lengthwise.open_session(path, model).lossy == other.lossy
    assert not read.lossy and "lossy" not in repr(read)


def test_every_level_of_one_file_can_be_read(
    model: lengthwise.Model, read: lengthwise.Session, path: Path
) -> None:
    read.save(path, CacheGen(level="all", chunk=32))
    truth, errors = read.score(NEXT), []
    for level in LEVELS:
        other = lengthwise.open_session(path, model, level=level)
        errors.append(float((entries(other) - entries(read)).square().sum()))
    assert errors == sorted(errors, reverse=True) and errors[-1] == 0
    assert torch.equal(lengthwise.open_session(path, model).score(NEXT), truth)
    assert torch.equal(lengthwise.open_session(path, model, level="lossless").score(NEXT), truth)
    read.save(path, "cachegen(level=2)")
    with pytest.raises(SessionError, match="level 3 is not stored in it; stored are 2"):
        lengthwise.open_session(path, model, level=3)
    for wrong in (0, "best", True):
        with pytest.raises(SessionError, match="levels are 1, 2, 3, lossless"):
            lengthwise.open_session(path, model, level=wrong)
    read.save(path)
    with pytest.raises(SessionError, match="has no levels"):
        lengthwise.open_session(path, model, level=2)


def entries(session: lengthwise.Session) -> torch.Tensor:
    held = [layer.groups[0].near.read() for layer in session.held.layers]
    return torch.cat([t.flatten() for each in held if each is not None for t in each.tensors()[:2]])


def test_a_lossy_session_is_no_other_prompts(path: Path) -> None:
    exact = tiny_model("llama", initializer_range=0.15)
    model, plain = lengthwise.wrap(exact, cache_bytes="8MB"), lengthwise.wrap(exact)
    model.read(TEXT).save(path, "cachegen(level=1)")
    cached = lengthwise.wrap(exact, cache_bytes="8MB")
    opened = lengthwise.open_session(path, cached)
    opened.ask(NEXT, max_new_tokens=2, stop_ids=[])
    opened.append(NEXT)
    mine, theirs = (
        each.generate([*TEXT, *NEXT], max_new_tokens=6, stop_ids=[]) for each in (cached, plain)
    )
    assert mine.token_ids == theirs.token_ids and mine.metrics.reused_tokens == 0


def test_a_chat_says_that_it_came_through_a_codec(path: Path) -> None:
    talking = chat_model()
    session = talking.read([{"role": "user", "content": "Ada signed it."}])
    session.save(path, "cachegen(level=2)")
    chat = lengthwise.Chat.resume(lengthwise.open_session(path, talking))
    assert any(
        "cachegen level 2" in note for note in chat.say("Who?", max_new_tokens=2).metrics.notes
    )


def test_codecs_are_refused_by_name(read: lengthwise.Session, path: Path) -> None:
    for text, told in (
        ("cachegen(level=5)", "level=5: allowed is 1, 2, 3, lossless, all"),
        ("cachegen(levels=2)", "has no option 'levels'; did you mean 'level'"),
        ("cachegem", "did you mean 'cachegen'"),
        ("zip", "there is no 'zip'"),
        ("cachegen + cachegen", "expected the end"),
        ("cachegen(group=0)", "group=0"),
        ("cachegen(chunk=99999)", "chunk=99999"),
        ("", "expected one of cachegen"),
    ):
        with pytest.raises(RecipeError, match=told.replace("(", r"\(")):
            read.save(path, text)
    with pytest.raises(RecipeError, match="a codec of type int"):
        codec_of(3)  # type: ignore[arg-type]
    with pytest.raises(RecipeError, match="cachegen: level=9"):
        CacheGen(level="9")
    assert not path.exists()
    assert str(codec_of("cachegen")) == "cachegen(level=2)" and codec_of(None) is None
    assert str(CacheGen("all", group=1)) == "cachegen(level=all, group=1)"
    assert level_of("lossless") == level_of(4) == 4


def test_without_its_library_nothing_is_written(
    read: lengthwise.Session, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "constriction", None)
    with pytest.raises(LengthwiseError, match=r"pip install 'lengthwise\[cachegen\]'"):
        read.save(path, "cachegen")
    assert not path.exists()


def test_a_session_of_another_model_or_version_is_refused_as_ever(
    model: lengthwise.Model, read: lengthwise.Session, path: Path
) -> None:
    read.save(path, "cachegen")
    other = lengthwise.wrap(tiny_model("llama", seed=1, initializer_range=0.15))
    with pytest.raises(SessionError, match="was read by llama, and this is"):
        lengthwise.open_session(path, other)
    with pytest.raises(SessionError, match="was read under 'full', not under 'kivi'"):
        lengthwise.open_session(path, model, "kivi")
    assert said_in(path)[0]["version"] == 2 and said_in(path)[0]["codec"] == "cachegen(level=2)"


def said_in(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Manifest and state of a file."""
    with safe_open(path, framework="pt") as file:
        state = json.loads(bytes(file.get_tensor("state").tolist()))
        return json.loads(file.metadata()["lengthwise"]), state


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 0.99])
def test_a_torn_file_is_one_clear_error(
    model: lengthwise.Model, read: lengthwise.Session, path: Path, share: float
) -> None:
    read.save(path, "cachegen(level=all, chunk=32)")
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(SessionError, match=r"is no session, or a damaged one \(.*; save it again"):
        lengthwise.open_session(path, model)


def changed(path: Path, change: Any) -> None:
    """Writes a coded session again, its state and its tensors changed."""
    held = {name: tensor.clone() for name, tensor in load_file(path).items()}
    manifest, state = said_in(path)
    change(state, held)
    held["state"] = torch.frombuffer(bytearray(json.dumps(state).encode()), dtype=torch.uint8)
    save_file(held, path, metadata={"lengthwise": json.dumps(manifest)})


def piece(held: dict[str, torch.Tensor], number: int = 0) -> torch.Tensor:
    return held[f"chunk{number:06}.level2"]


HOSTILE = {
    "bit": lambda s, held: piece(held)[9:10].bitwise_xor_(1),
    "gone": lambda s, held: held.pop("chunk000001.level2"),
    "dtype": lambda s, held: held.update({"chunk000000.level2": torch.zeros(3)}),
    "short": lambda s, held: held.update({"chunk000000.level2": piece(held)[:50].clone()}),
    "swapped": lambda s, held: held.update({"chunk000000.level2": piece(held, 1).clone()}),
    "levels": lambda s, held: s["coded"].update(levels=[7]),
    "none": lambda s, held: s["coded"].update(levels=[]),
    "chunk": lambda s, held: s["coded"].update(chunk=0),
    "large": lambda s, held: s["coded"].update(chunk=1 << 40),
    "group": lambda s, held: s["coded"].update(group=0),
    "groups": lambda s, held: s["coded"].update(group=1 << 40),
    "group3": lambda s, held: s["coded"].update(group=3),
    "planes": lambda s, held: s["coded"].update(planes=None),
    "tokens": lambda s, held: s["coded"]["planes"][0].__setitem__(4, 10**12),
    "heads": lambda s, held: s["coded"]["planes"][0].__setitem__(3, 10**12),
    "negative": lambda s, held: s["coded"]["planes"][0].__setitem__(3, -1),
    "dim": lambda s, held: s["coded"]["planes"][0].__setitem__(5, 10**9),
    "layer": lambda s, held: s["coded"]["planes"][0].__setitem__(1, 99),
    "kind": lambda s, held: s["coded"]["planes"][0].__setitem__(2, "scores"),
    "twice": lambda s, held: s["coded"]["planes"].append(s["coded"]["planes"][0]),
    "fewer": lambda s, held: s["coded"]["planes"].pop(),
    "same": lambda s, held: s.update(same=dict.fromkeys(s["same"], "nope")),
    "text": lambda s, held: s.update(coded="cachegen"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_one_clear_error(
    model: lengthwise.Model, read: lengthwise.Session, path: Path, name: str
) -> None:
    read.save(path, "cachegen(level=2, chunk=32)")
    changed(path, HOSTILE[name])
    with pytest.raises(SessionError, match="damaged") as caught:
        lengthwise.open_session(path, model)
    assert "\n" not in str(caught.value)


def test_entries_that_are_no_numbers_are_refused_where_they_are_lost(
    model: lengthwise.Model, path: Path
) -> None:
    session = model.read(TEXT)
    held = session.held.layers[1].groups[0].near.blocks()
    held[0].value[0, 3, 1] = float("inf")
    with pytest.raises(SessionError, match="cannot be stored: keys or values are not finite"):
        session.save(path, "cachegen(level=2)")
    session.save(path, "cachegen(level=lossless)")
    assert not (path.parent / "x").exists() and path.exists()
