"""`run` and `compare` where the model is behind our own server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from lengthwise.methods.prompting._shared.choosing import EVEN
from tests.called import called
from tests.remote_server import Scripted, says
from tests.serving.served import Served, saved_model

pytest.importorskip("openai")
TEXT = "\n\n".join(f"The keeper of tower {n} is called {n * n}." for n in range(40))
BM25 = ("-r", "bm25(budget=60, passage=60)")
SHORT = ("--max-new-tokens", "3")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("far")
    (found / "towers.txt").write_text(TEXT, encoding="utf-8")
    return found


@pytest.fixture(scope="module")
def served(place: Path) -> Iterator[Served]:
    found = Served(str(saved_model(place / "talker")), "--dtype", "fp32")
    yield found
    assert found.end()[0] == 0


@pytest.fixture
def far(served: Served, place: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    monkeypatch.chdir(place)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    return ("-m", f"openai:{served.url}/v1", "--tokenizer", str(place / "talker"))


def test_run_chooses_here_and_asks_there(far: tuple[str, ...]) -> None:
    words = ("run", "Who keeps tower 23?", "-d", "towers.txt", *far, *BM25, *SHORT)
    code, out, err = called(*words, "--sources")
    assert code == 0, err
    assert "tower 23 is called 529" in out and "tokens read" in err and "counted with" not in err
    code, out, err = called(*words, "--json")
    found = json.loads(out)
    assert code == 0 and found["server"].endswith("/v1") and found["text"]
    assert 0 < found["prompt_tokens"] == found["tokens_read"] and found["sources"]
    code, out, err = called("run", "hello", *far, *SHORT)
    assert code == 0 and out.strip(), err


def test_notes_of_an_answer_are_printed_and_none_twice(far: tuple[str, ...]) -> None:
    server = Scripted(says("It", " is", usage=False))
    asked = ("-d", "towers.txt", "-m", f"openai:{server.url}", *SHORT, *BM25)
    try:
        code, out, err = called("run", "zebra?", *asked, *far[2:])
        assert (code, out) == (0, "It is\n")
        assert err.count("did not say how many tokens it read") == err.count(EVEN) == 1
        # What is known before it answers was said when it was opened.
        code, _, err = called("run", "zebra?", *asked)
        assert code == 0 and err.count("are counted with the tokenizer of") == 1, err
    finally:
        server.close()


def test_xl3m_asks_our_server_for_probabilities(far: tuple[str, ...]) -> None:
    words = ("run", "Who?", "-d", "towers.txt", *far, *SHORT, "--json")
    code, out, err = called(*words, "-r", "xl3m(budget=60, segment=120)")
    assert code == 0, err
    found = json.loads(out)
    assert found["tokens_read"] > 3 * found["prompt_tokens"]


def test_compare_has_a_table_of_the_server(far: tuple[str, ...]) -> None:
    words = ("compare", "towers.txt", "-q", "Who keeps tower 23?", *far, *SHORT, *BM25)
    code, out, err = called(*words, "--expect", "529")
    assert code == 0, err
    together = "".join(out.split())
    assert "tokens_read" in together and "kv_bytes" not in together
    assert "bm25(budget=60" in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("run", "hi", "-r", "kivi"), "acts within a model"),
        (("run", "hi", *BM25), "none is given"),
        (("run", "hi", "--raw"), "--raw is for a model that runs here"),
        (("run", "hi", "-d", "towers.txt", "-n", "9"), "--length is for a model"),
        (("run", "hi", "--dtype", "fp32"), "--dtype is of a model that runs here"),
        (("compare", "towers.txt", "--probes"), "tells no losses"),
        (("compare", "towers.txt", "--weights", "int8"), "--weights is of a model"),
    ],
)
def test_what_a_server_cannot_do_is_refused(
    far: tuple[str, ...], words: tuple[str, ...], said: str
) -> None:
    code, _, err = called(*words, *far)
    assert code == 2 and said in err


def test_other_verbs_need_a_model_here(far: tuple[str, ...]) -> None:
    code, _, err = called("chat", *far[:2])
    assert code == 2 and "is behind a server" in err
    code, _, err = called("run", "hi", *far[2:])
    assert code == 2 and "--tokenizer is of a model behind a server" in err
