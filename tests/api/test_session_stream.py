"""Sessions over a link: in time where that can be, the same to the byte where nothing is lost."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
import torch

import lengthwise
from lengthwise.api.cartridge import cartridge_session
from lengthwise.api.ranges import Ranges
from lengthwise.api.session_stream import Arrived
from lengthwise.engine.given import entries_of
from lengthwise.engine.kv_cache.cachegen import LEVELS
from lengthwise.engine.kv_cache.packing import Damaged
from lengthwise.engine.prefix.cache import reading_of
from lengthwise.errors import LengthwiseError, SessionError
from lengthwise.testing.tiny import tiny_model, tokens

TEXT, NEXT = tokens(150), tokens(12, seed=4)
CHUNK = 32


class Link:
    """A file behind a link, and the clock of its world.

    rates: bytes a second of the first chunk, of the second, and so on; the last for all after it.
    """

    def __init__(self, path: Path, rates: list[float]) -> None:
        self.data, self.rates, self.now, self.asked = path.read_bytes(), rates, 0.0, 0
        whole = Ranges(path, "it")
        self._chunks = {
            whole.size(f"chunk{number:06}.level{level}") for number in range(5) for level in LEVELS
        }

    def clock(self) -> float:
        return self.now

    def read(self, offset: int, length: int) -> bytes:
        if length in self._chunks:
            self.now += length / self.rates[min(self.asked, len(self.rates) - 1)]
            self.asked += 1
        return self.data[offset : offset + length]


@pytest.fixture(scope="module")
def model() -> lengthwise.Model:
    return lengthwise.wrap(tiny_model("llama", initializer_range=0.15, max_position_embeddings=64))


@pytest.fixture(scope="module")
def read(model: lengthwise.Model) -> lengthwise.Session:
    return model.read(TEXT)


@pytest.fixture(scope="module")
def path(read: lengthwise.Session, tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("link") / "held"
    read.save(found, f"cachegen(level=all, chunk={CHUNK})")
    return found


def levels(
    path: Path, model: lengthwise.Model, deadline: float, rates: list[float],
    **options: float | None,
) -> tuple[lengthwise.Session, list[int]]:  # fmt: skip
    found: list[Arrived] = []
    link = Link(path, rates)
    session = lengthwise.stream_session(
        link.read, model, deadline, on_chunk=found.append, clock=link.clock, **options
    )
    assert [(each.start, each.stop) for each in found] == [
        (start, min(len(TEXT), start + CHUNK)) for start in range(0, len(TEXT), CHUNK)
    ]
    return session, [each.level for each in found]


def test_with_time_enough_all_is_lossless(
    path: Path, model: lengthwise.Model, read: lengthwise.Session
) -> None:
    session, taken = levels(path, model, 1e6, [1e6], bandwidth=1e6, read_rate=0)
    assert taken == [4] * 5 and not session.lossy
    assert torch.equal(session.score(NEXT), read.score(NEXT))
    assert session.tokens == read.tokens and len(session.held) == len(read.held)
    other = read.fork()
    for each in (session, other):
        each.append(NEXT)
    assert torch.equal(session.score(NEXT), other.score(NEXT))
    assert session.notes[-1].endswith("levels lossless, lossless, lossless, lossless, lossless")


def test_text_is_read_where_that_is_faster_and_in_time(
    path: Path, model: lengthwise.Model, read: lengthwise.Session
) -> None:
    session, taken = levels(path, model, 1e6, [1.0], bandwidth=1.0, read_rate=1e9)
    assert taken == [0] * 5 and not session.lossy
    assert torch.allclose(session.score(NEXT), read.score(NEXT), atol=1e-4)
    found, truth = (each.ask(NEXT, max_new_tokens=4, stop_ids=[]) for each in (session, read))
    assert found.token_ids == truth.token_ids


def test_a_link_that_gets_slow_gets_worse_levels_and_a_fast_one_better(
    path: Path, model: lengthwise.Model
) -> None:
    session, taken = levels(path, model, 2.0, [1e9, 1e3, 1e9], read_rate=0)
    assert taken == [2, 4, 1, 1, 1] and session.lossy == "cachegen levels 1, 2"
    assert "too late" in session.notes[-1]
    session, taken = levels(path, model, 30.0, [1e3, 1e9], read_rate=0)
    assert taken[0] == 2 and taken[1] < 4 and taken[2:] == [4, 4, 4], taken
    assert "too late" not in session.notes[-1]


def test_text_between_levels_goes_on_from_what_came(
    path: Path, model: lengthwise.Model, read: lengthwise.Session
) -> None:
    """A first chunk at a lossless level, and all that is behind it read anew."""
    session, taken = levels(path, model, 1e3, [1e6, 1.0], bandwidth=1e9, read_rate=1e5)
    assert taken[0] == 4 and 0 in taken, taken
    assert torch.allclose(session.score(NEXT), read.score(NEXT), atol=1e-4)


def test_being_late_is_said(path: Path, model: lengthwise.Model) -> None:
    session, taken = levels(path, model, 0.5, [1e4], bandwidth=1e4, read_rate=0)
    assert taken == [1] * 5 and "s too late" in session.notes[-1]


def test_how_fast_text_is_read_is_measured_where_nobody_says(
    path: Path, model: lengthwise.Model
) -> None:
    session = lengthwise.stream_session(path, model, 1e-6)
    assert "too late" in session.notes[-1] and len(session) == len(TEXT)


def test_what_is_said_of_a_session_comes_with_it_unless_all_is_read_as_text(
    model: lengthwise.Model, path: Path, tmp_path: Path
) -> None:
    edited = model.read(TEXT)
    edited.edit((30, 42), NEXT)
    coded = lengthwise.open_session(path, model, level=1)
    for held in (edited, coded):
        held.save(tmp_path / "held", f"cachegen(level=all, chunk={CHUNK})")
        session, _ = levels(tmp_path / "held", model, 1e6, [1e6], bandwidth=1e6, read_rate=0)
        assert session.lossy == held.lossy != ""
        assert session.held.stale == held.held.stale == (held is edited)
        notes = session.ask(NEXT, max_new_tokens=2, stop_ids=[]).metrics.notes
        assert any(held.lossy in note for note in notes)
        with pytest.raises(LengthwiseError, match="a lossy session"):
            lengthwise.Pieces(model).add(session)
        read, taken = levels(tmp_path / "held", model, 1e6, [1.0], bandwidth=1.0, read_rate=1e9)
        assert set(taken) == {0} and not read.lossy and not read.held.stale
        whole = model.read(held.tokens)
        assert torch.allclose(read.score(NEXT), whole.score(NEXT), atol=1e-4)


def test_stale_entries_that_came_over_a_link_are_no_other_prompts(tmp_path: Path) -> None:
    model = lengthwise.wrap(tiny_model("llama", initializer_range=0.15))
    edited = model.read(TEXT)
    edited.edit((30, 42), NEXT)
    edited.save(tmp_path / "held", "cachegen(level=all)")
    session = lengthwise.stream_session(tmp_path / "held", model, 1e6, read_rate=0, bandwidth=1e12)
    assert reading_of(model.read(TEXT).held, len(TEXT)) is not None
    assert reading_of(session.held, len(TEXT)) is None


@pytest.mark.parametrize("recipe", ["yarn(factor=2)", "kivi(group=8, residual=16)", "lookup"])
def test_recipes_that_read_as_full_does_are_streamed(
    model: lengthwise.Model, tmp_path: Path, recipe: str
) -> None:
    held = model.read(TEXT, recipe)
    held.save(tmp_path / "held", f"cachegen(level=all, chunk={CHUNK})")
    session = lengthwise.stream_session(tmp_path / "held", model, 1e6, bandwidth=1e12, read_rate=0)
    assert torch.equal(session.score(NEXT), held.score(NEXT)) and session.recipe == held.recipe


@pytest.mark.parametrize(
    "recipe", ["streaming(sinks=2, window=24)", "snapkv(budget=50%, window=8)", "h2o(budget=40)"]
)
def test_what_holds_more_than_keys_and_values_is_refused(
    model: lengthwise.Model, tmp_path: Path, recipe: str
) -> None:
    model.read(TEXT, recipe).save(tmp_path / "held", "cachegen(level=all)")
    with pytest.raises(SessionError, match=r"cannot be streamed: .*; open it with open_session"):
        lengthwise.stream_session(tmp_path / "held", model, 5.0)


def test_what_was_read_apart_or_trained_is_refused_and_comes_back_whole(
    model: lengthwise.Model, tmp_path: Path
) -> None:
    ids = tokens(20)
    trained = cartridge_session(model, "full", ids, entries_of(model.read(ids).held), {})
    apart = model.read_apart([tokens(20), tokens(30, seed=2)], prefix=tokens(4, seed=3))
    for session, told in ((apart, "documents that were read apart"), (trained, "was trained")):
        session.save(tmp_path / "held", "cachegen(level=lossless)")
        other = lengthwise.open_session(tmp_path / "held", model)
        found, truth = (each.ask(NEXT, max_new_tokens=4, stop_ids=[]) for each in (other, session))
        assert found.token_ids == truth.token_ids
        with pytest.raises(SessionError, match=f"cannot be streamed: .*{told}.*open_session"):
            lengthwise.stream_session(tmp_path / "held", model, 5.0)


@pytest.mark.parametrize("kept", [slice(0, 9), slice(1, 10)], ids=["first", "others"])
def test_a_session_that_dropped_tokens_is_refused(
    model: lengthwise.Model, tmp_path: Path, kept: slice
) -> None:
    session = model.read(TEXT)
    for layer in session.held.layers:
        layer.groups[0].near.keep(torch.arange(len(TEXT))[kept])
    session.save(tmp_path / "held", "cachegen(level=all)")
    with pytest.raises(SessionError, match="cannot be streamed: it left out tokens"):
        lengthwise.stream_session(tmp_path / "held", model, 5.0, read_rate=0)


class Ranged(BaseHTTPRequestHandler):
    """Serves one file by ranges, as object stores do."""

    data = b""

    def do_GET(self) -> None:
        first, last = self.headers["Range"].removeprefix("bytes=").split("-")
        part = self.data[int(first) : int(last) + 1]
        self.send_response(206)
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part)

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def address(path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(Ranged, "data", path.read_bytes())
    server = ThreadingHTTPServer(("127.0.0.1", 0), Ranged)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/held"
    server.shutdown()
    thread.join()
    server.server_close()


def ranged(address: str, offset: int, length: int) -> bytes:
    asked = Request(address, headers={"Range": f"bytes={offset}-{offset + length - 1}"})
    with urlopen(asked) as answer:
        return bytes(answer.read())


def test_ranges_of_http_are_a_source(
    address: str, model: lengthwise.Model, read: lengthwise.Session
) -> None:
    source = partial(ranged, address)
    session = lengthwise.stream_session(source, model, 1e6, bandwidth=1e12, read_rate=0)
    assert torch.equal(session.score(NEXT), read.score(NEXT))


def test_what_is_wrong_with_a_source_is_one_line(
    path: Path, model: lengthwise.Model, read: lengthwise.Session, tmp_path: Path
) -> None:
    def broken(offset: int, length: int) -> bytes:
        raise ConnectionResetError("the link is down")

    data = path.read_bytes()

    def torn(offset: int, length: int) -> bytes:
        return data[offset : min(offset + length, len(data) - 2000)]

    other = lengthwise.wrap(tiny_model("llama", seed=1))
    read.save(tmp_path / "plain")
    for source, whose, deadline, told in (
        (broken, model, 5.0, "the source: byte 0 cannot be read .the link is down.; try again"),
        (torn, model, 5.0, "the source: is no session, or a damaged one .*bytes came from byte"),
        (lambda o, n: b"", model, 5.0, "0 of 8 bytes came from byte 0 on"),
        (lambda o, n: b"\xff" * n, model, 5.0, "does not begin with a header"),
        (tmp_path / "no", model, 5.0, "there is no such file"),
        (tmp_path / "plain", model, 5.0, "was saved without a codec; save it with cachegen"),
        (path, other, 5.0, "was read by llama"),
        (path, model, 0.0, "a deadline of 0.0 s; give seconds above 0"),
        (path, model, float("nan"), "a deadline of nan s"),
    ):
        with pytest.raises(SessionError, match=told) as caught:
            lengthwise.stream_session(source, whose, deadline, read_rate=0)  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)


def test_a_bit_that_changed_on_the_way_is_told(path: Path, model: lengthwise.Model) -> None:
    data = bytearray(path.read_bytes())
    data[-len(data) // 4] ^= 1
    for level in (1, 2, 3, 4):
        try:
            lengthwise.stream_session(
                lambda o, n: bytes(data[o : o + n]), model, 1e6, read_rate=0, bandwidth=1e12
            )
        except SessionError as error:
            assert "not what was written" in str(error)
            return
        data[-(level + 1) * len(data) // 6] ^= 1
    raise AssertionError("no level met its changed bit")


def test_a_header_is_held_against_its_bytes() -> None:
    def source(header: bytes, more: bytes = b"") -> Ranges:
        whole = len(header).to_bytes(8, "little") + header + more
        return Ranges(lambda offset, length: whole[offset : offset + length], "it")

    found = source(b'{"a": {"dtype": "I32", "shape": [2], "data_offsets": [0, 8]}}', bytes(8))
    assert found.get("a").tolist() == [0, 0] and found.size("a") == 8 and found.metadata is None
    for entry, told in (
        (b'{"dtype": "I32", "shape": [3], "data_offsets": [0, 8]}', "another size"),
        (b'{"dtype": "I32", "shape": [-1, -2], "data_offsets": [0, 8]}', "another size"),
        (b'{"dtype": "U8", "shape": [99], "data_offsets": [0, 99]}', "8 of 99 bytes"),
        (b'{"dtype": "U8", "shape": [2], "data_offsets": [2, 0]}', "lies nowhere"),
        (b'{"dtype": "U8", "shape": [2], "data_offsets": [-2, 0]}', "lies nowhere"),
        (b'{"dtype": "U8", "shape": [4611686018427387904], '
         b'"data_offsets": [0, 4611686018427387904]}', "8 of 8,388,608 bytes"),
    ):  # fmt: skip
        with pytest.raises(Damaged, match=told):
            source(b'{"a": ' + entry + b"}", bytes(8)).get("a")
    with pytest.raises(Damaged, match="it has no b"):
        found.get("b")
    with pytest.raises(Damaged, match="its header is none"):
        source(b"[1]")
