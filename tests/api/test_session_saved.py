"""Sessions in files: they come back to the byte, and what is not theirs is refused by name."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import lengthwise
from lengthwise.api import session_writing
from lengthwise.engine.kv_cache.packing import Packer, Unstorable, classes_of, unpack
from lengthwise.errors import LengthwiseError, SessionError
from lengthwise.methods.retention.sirllm import Memory
from lengthwise.methods.selection import squeezed
from lengthwise.methods.selection.quest import Pages
from lengthwise.testing.tiny import tiny_model, tokens
from tests.chat_models import chat_model

STATE = ("chunk", "source", "sequence")
TEXT, NEXT = tokens(90), tokens(16, seed=4)
RECIPES = [
    "full",
    "streaming(sinks=2, window=24)",
    "snapkv(budget=50%, window=8, floor=8)",
    "pyramidkv(budget=50%, window=8, floor=8)",
    "kivi(bits=4, group=8, residual=16)",
    "int8(residual=8)",
    "think(ratio=0.5, recent=8, window=8)",
    "razor(buffer=16)",
    "kvzip(budget=50%, chunk=32, instruct=false, floor=8)",
    "ems(budget=50%, threshold=0, weigh=mass, window=8, floor=8)",
    "h2o(budget=40)",
    "tova(budget=40)",
    "adakv(budget=50%, window=8, floor=8)",
    "expected_attention(budget=50%, floor=8, adaptive=true)",
    "sirllm(budget=40, turn=8)",
    "yarn(factor=2)",
    "dynamic_ntk",
    "self_extend(group=4, window=16)",
    "lm_infinite(window=24)",
    "quest(budget=32, window=8, page=4, dense=0)",
    "squeezed(removed=0.6, clusters=0.25, coarse=0.1, window=8)",
    "hip(budget=24, window=8, init=4, block=2, query_block=8, dense=0)",
    "infllm(budget=32, window=16, block=4, init=2)",
    "infllm(budget=32, window=16, block=4, init=2, offload=disk)",
    "token_select(budget=32, window=16, init=2, query_block=8, reuse=0.5)",
    "h2o(budget=40) + int8(residual=4)",
    "think(ratio=0.5, recent=8, window=8) + kivi(bits=4, group=8, residual=8)",
    "snapkv(budget=50%, window=8, floor=8) + kivi(bits=2, group=8, residual=8) + lookup",
]


@pytest.fixture(scope="module")
def model() -> lengthwise.Model:
    return lengthwise.wrap(tiny_model("llama", initializer_range=0.15, max_position_embeddings=64))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "held.safetensors"


@pytest.mark.parametrize("compressed", [False, True], ids=["open", "compressed"])
@pytest.mark.parametrize("recipe", RECIPES)
def test_what_comes_back_is_the_same_to_the_byte(
    model: lengthwise.Model, path: Path, recipe: str, compressed: bool
) -> None:
    session = model.read(TEXT, recipe, chunk=16)
    if compressed:
        session.compress()
    session.save(path)
    other = lengthwise.open_session(path, model)
    assert (other.recipe, other.tokens) == (session.recipe, session.tokens)
    assert other.compressed == compressed
    assert torch.equal(other.score(NEXT), session.score(NEXT))
    mine, theirs = (each.ask(NEXT, max_new_tokens=8, stop_ids=[]) for each in (session, other))
    assert mine.token_ids == theirs.token_ids
    # It goes on as the one that was stored: what selections and observers hold came with it.
    for each in (session, other):
        each.append(NEXT)
    assert torch.equal(other.score(NEXT), session.score(NEXT))
    other.save(path)
    assert torch.equal(lengthwise.open_session(path, model).score(NEXT), session.score(NEXT))


def test_clusters_are_made_once_for_a_file(
    model: lengthwise.Model, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `session.compress` made them, for all questions, forks and openings."""
    session = model.read(
        TEXT, "squeezed(removed=0.6, clusters=0.25, coarse=0.1, window=8)", chunk=16
    )
    session.compress()
    session.save(path)

    def again(*given: object) -> None:
        raise AssertionError("the keys are clustered again")

    monkeypatch.setattr(squeezed, "kmeans", again)
    other = lengthwise.open_session(path, model)
    fork = other.fork()
    found = [each.ask(NEXT, max_new_tokens=8, stop_ids=[]) for each in (session, other, fork)]
    assert len({tuple(each.token_ids) for each in found}) == 1
    open_one = model.read(
        TEXT, "squeezed(removed=0.6, clusters=0.25, coarse=0.1, window=8)", chunk=16
    )
    with pytest.raises(AssertionError, match="clustered again"):
        open_one.ask(NEXT, max_new_tokens=8, stop_ids=[])


@pytest.mark.parametrize("family", ["gemma3_text", "deepseek_v3", "gpt_oss"])
def test_other_families_come_back_too(family: str, path: Path) -> None:
    model = lengthwise.wrap(tiny_model(family))
    session = model.read(TEXT[:40])
    session.save(path)
    other = lengthwise.open_session(path, model)
    assert torch.equal(other.score(NEXT), session.score(NEXT))


def test_a_text_is_asked_about_after_it_came_back(path: Path) -> None:
    talking = chat_model()
    session = talking.read("Ada signed it.", "kivi(residual=16, group=8)")
    session.save(path)
    other = lengthwise.open_session(path, talking)
    mine, theirs = (each.ask("Who signed it?", max_new_tokens=6) for each in (session, other))
    assert mine.token_ids == theirs.token_ids
    assert theirs.metrics.reused_tokens > 10
    other.append(" Bob did not.")
    assert other.tokens == talking.read("Ada signed it. Bob did not.").tokens


def test_a_compressed_file_is_small_and_says_what_it_is(
    model: lengthwise.Model, path: Path
) -> None:
    session = model.read(TEXT * 8, "int8")
    session.save(path)
    whole = path.stat().st_size
    session.compress()
    session.save(path)
    assert path.stat().st_size < 0.5 * whole
    with safe_open(path, framework="pt") as file:
        manifest = json.loads(file.metadata()["lengthwise"])
    assert manifest["recipe"] == "int8" and manifest["version"] == session_writing.VERSION
    assert manifest["positions"] == "the model's own" and manifest["dtype"] == "float32"
    assert manifest["library"] == lengthwise.__version__ and len(manifest["fingerprint"]) == 16


def test_what_is_opened_is_mapped_and_not_read(model: lengthwise.Model, path: Path) -> None:
    model.read(TEXT).save(path)
    other = lengthwise.open_session(path, model)
    tail = other.held.layers[0].groups[0].near.tail
    assert tail is not None
    size = tail.key.untyped_storage().nbytes()
    maps = Path("/proc/self/maps")
    if maps.exists():
        assert str(path) in maps.read_text()
    assert size > 0
    # A question does not write to the file.
    before = path.read_bytes()
    other.ask(NEXT, max_new_tokens=4, stop_ids=[])
    other.append(NEXT)
    assert path.read_bytes() == before


def changed(path: Path, change: Any, tensors: Any = None) -> None:
    """Writes a session again with its manifest, or its tensors, changed."""
    held = {name: tensor.clone() for name, tensor in load_file(path).items()}
    manifest = said_in(path)
    change(manifest)
    state = {name: manifest.pop(name) for name in STATE if name in manifest}
    held["state"] = torch.frombuffer(bytearray(json.dumps(state).encode()), dtype=torch.uint8)
    if tensors is not None:
        tensors(held)
    save_file(held, path, metadata={"lengthwise": json.dumps(manifest)})


def said_in(path: Path) -> dict[str, Any]:
    """The header and the state of a session's file, as one."""
    with safe_open(path, framework="pt") as file:
        found: dict[str, Any] = json.loads(file.metadata()["lengthwise"])
        return found | json.loads(bytes(file.get_tensor("state").tolist()))


def test_a_session_of_another_model_dtype_recipe_or_version_is_refused_by_name(
    model: lengthwise.Model, path: Path
) -> None:
    model.read(TEXT, "kivi").save(path)
    other = lengthwise.wrap(tiny_model("llama", seed=1, initializer_range=0.15))
    with pytest.raises(SessionError, match="was read by llama, and this is"):
        lengthwise.open_session(path, other)
    with pytest.raises(SessionError, match="was read under 'kivi', not under 'full'"):
        lengthwise.open_session(path, model, "full")
    assert lengthwise.open_session(path, model, "kivi").recipe == "kivi"
    changed(path, lambda manifest: manifest.update(dtype="bfloat16"))
    with pytest.raises(SessionError, match="was read in bfloat16.*float32"):
        lengthwise.open_session(path, model)
    changed(path, lambda manifest: manifest.update(version=99))
    with pytest.raises(SessionError, match="is of format version 99, written by lengthwise"):
        lengthwise.open_session(path, model)
    changed(path, lambda manifest: manifest.update(format="another"))
    with pytest.raises(SessionError, match="holds no session"):
        lengthwise.open_session(path, model)


def test_a_recipe_that_reads_files_is_not_followed_unasked(
    model: lengthwise.Model, path: Path, tmp_path: Path
) -> None:
    (tmp_path / "store").write_text("x")
    model.read(TEXT).save(path)
    hostile = f"datastore(path={tmp_path / 'store'})"
    changed(path, lambda manifest: manifest.update(recipe=hostile))
    with pytest.raises(SessionError, match="its recipe .* reads .*store; give that recipe too"):
        lengthwise.open_session(path, model)


@pytest.mark.parametrize("kept", [0, 5, 100, 4000, -1], ids=lambda n: f"{n} bytes")
def test_a_truncated_file_is_one_clear_error(
    model: lengthwise.Model, path: Path, kept: int
) -> None:
    model.read(TEXT).save(path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(SessionError, match=r"is no session, or a damaged one \(.*; save it again"):
        lengthwise.open_session(path, model)


def test_what_is_no_file_of_ours_is_one_clear_error(model: lengthwise.Model, path: Path) -> None:
    with pytest.raises(SessionError, match="there is no such file"):
        lengthwise.open_session(path, model)
    with pytest.raises(SessionError, match="there is no such file"):
        lengthwise.open_session(path.parent, model)
    for data in (b"x" * 100, struct.pack("<Q", 1 << 62), b"\x80\x04\x95" + bytes(40)):
        path.write_bytes(data)
        with pytest.raises(SessionError, match="is no session, or a damaged one"):
            lengthwise.open_session(path, model)
    save_file({"a": torch.zeros(2)}, path)
    with pytest.raises(SessionError, match="holds no session"):
        lengthwise.open_session(path, model)
    save_file({"a": torch.zeros(2)}, path, metadata={"lengthwise": "[" * 100_000})
    with pytest.raises(SessionError, match="damaged"):
        lengthwise.open_session(path, model)


def _first(manifest: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = manifest["sequence"]["layers"][0]["groups"][0]
    return found


HOSTILE = {
    "class": lambda m: _first(m)["near"]["closed"].append({"class": "Popen", "fields": {}}),
    "module": lambda m: _first(m)["near"]["closed"].append({"class": "os.system", "fields": {}}),
    "fields": lambda m: _first(m)["near"]["closed"].append({"class": "KiviBlock", "fields": {}}),
    "attribute": lambda m: m["sequence"]["layers"][0]["codec"].update(encode=1),
    "placement": lambda m: _first(m).update(placement={"far_key": "x"}),
    "layers": lambda m: m["sequence"]["layers"].pop(),
    "tensor": lambda m: _first(m)["near"]["tail"].update(key={"tensor": "nope"}),
    "none": lambda m: _first(m)["near"]["tail"].update(key=None),
    "swapped": lambda m: _first(m)["near"]["tail"].update(index=_first(m)["near"]["tail"]["key"]),
    "selector": lambda m: _first(m).update(selector={"held": 3}),
    "retention": lambda m: m["sequence"].update(retention={}),
    "number": lambda m: m["sequence"].update(tokens=5),
    "gone": lambda m: m.pop("sequence"),
    "string": lambda m: m.update(sequence="x"),
    "source": lambda m: m.update(source=None),
    "recipe": lambda m: m.update(recipe="kivi("),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_manifest_is_one_clear_error(
    model: lengthwise.Model, path: Path, name: str
) -> None:
    session = model.read(TEXT, "kivi(bits=4, group=8, residual=16)")
    session.compress()
    session.save(path)
    changed(path, HOSTILE[name])
    with pytest.raises(LengthwiseError) as caught:
        lengthwise.open_session(path, model)
    assert "\n" not in str(caught.value) or name == "recipe"


@pytest.mark.parametrize("name", ["tokens", "births", "shape", "dtype", "others"])
def test_hostile_tensors_are_one_clear_error(
    model: lengthwise.Model, path: Path, name: str
) -> None:
    model.read(TEXT).save(path)
    manifest = said_in(path)
    tail, held = _first(manifest)["near"]["tail"], manifest["sequence"]["tokens"]["tensor"]

    def spoil(tensors: dict[str, torch.Tensor]) -> None:
        key, index = tail["key"]["tensor"], tail["index"]["tensor"]
        if name == "tokens":
            tensors[held][3] = 10**9
        elif name == "births":
            tensors[index][0, -1] = 10**6
        elif name == "shape":
            tensors[key] = tensors[key][:, :, :8].contiguous()
        elif name == "dtype":
            tensors[key] = tensors[key].double()
        else:
            tensors["tokens"][0] += 1

    changed(path, lambda manifest: None, spoil)
    with pytest.raises(SessionError, match="damaged"):
        lengthwise.open_session(path, model)


def test_nothing_half_written_is_left(
    model: lengthwise.Model, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = model.read(TEXT)
    session.save(path)
    before = path.read_bytes()

    def full(tensors: Any, aside: Path, metadata: Any) -> None:
        aside.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(session_writing, "save_file", full)
    with pytest.raises(SessionError, match="cannot be written .*No space left"):
        session.save(path)
    assert path.read_bytes() == before
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_what_cannot_be_stored_is_refused_by_name_at_save(
    model: lengthwise.Model, path: Path
) -> None:
    session = model.read(TEXT, "quest(budget=32, window=8, page=4, dense=0)")
    selector: Any = session.held.layers[0].groups[0].selector
    selector.low = lambda: None
    with pytest.raises(SessionError, match=r"quest.* cannot be stored: quest\.low holds a func"):
        session.save(path)
    assert not path.exists()


def test_plain_data_comes_back_and_code_does_not() -> None:
    packer = Packer()
    value = {"a": [1, (2.5, None)], 3: torch.ones(2), "d": torch.float16}
    data = json.loads(json.dumps(packer.pack(value, "it", {})))
    found = unpack(data, packer.tensors.__getitem__, {})
    assert torch.equal(found.pop(3), torch.ones(2))
    assert found == {"a": [1, (2.5, None)], "d": torch.float16}
    for odd in (lambda: None, object(), {1}, Path("x"), Pages):
        with pytest.raises(Unstorable, match="it holds a"):
            packer.pack(odd, "it", {})
    assert "Quest" in classes_of([Pages.__new__(Pages)]) and "Memory" not in classes_of([None])
    assert Memory.__name__ in classes_of([Memory.__new__(Memory)])
