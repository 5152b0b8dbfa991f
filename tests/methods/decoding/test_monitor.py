"""Behind a dot only members are written: of a table, and of jedi."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tokenizers import AddedToken

import lengthwise
from lengthwise.errors import RecipeError, Refused
from lengthwise.methods.decoding._shared import members as sources
from lengthwise.methods.decoding.monitor import Monitor, MonitorLaw
from lengthwise.recipes import parse
from lengthwise.testing import decoders
from lengthwise.testing.tiny import tiny_model
from tests.chat_models import tokenizer
from tests.methods.decoding.law_models import written_model

TABLE = {"obj": ["get", "getName", "set"], "self.items": ["append"]}
CODE = "class A:\n    def b(self):\n        obj."


@pytest.fixture(scope="module")
def model() -> lengthwise.Model:
    """Tokens of one byte, and some that hold a dot or a break character."""
    made = tokenizer()
    made.add_tokens([AddedToken(text, normalized=False) for text in
                     ("get(", ".get", ".put", "getN", "get.x", "x.y", "obj.set", "obj.put", "1.e",
                      "'.py", " get")])  # fmt: skip
    stock = tiny_model("llama", initializer_range=0.15, vocab_size=len(made),
                       max_position_embeddings=512, eos_token_id=made.eos_token_id)  # fmt: skip
    return lengthwise.wrap(stock, made)


def law_of(model: lengthwise.Model, prompt: str, method: Monitor | None = None) -> MonitorLaw:
    law = (method or Monitor.of(TABLE)).start_law(model.adapted)
    assert isinstance(law, MonitorLaw)

    class Read:
        tokens = model.encode(prompt)

    law.begin(Read(), None, 9, [model.tokenizer.eos_token_id])  # type: ignore[arg-type, union-attr]
    return law


def allowed(model: lengthwise.Model, law: MonitorLaw, written: str = "") -> set[str]:
    """The texts of the tokens that may follow."""
    found = law.process(torch.zeros(model.adapted.vocab_size), model.encode(written or "")
                        if written else [])  # fmt: skip
    tokens = found.isfinite().nonzero()[:, 0].tolist()
    return {model.tokenizer.decode([token]) for token in tokens}  # type: ignore[union-attr]


def letters() -> Iterator[str]:
    yield from "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789"


def test_behind_a_dot_members_begin(model) -> None:
    assert allowed(model, law_of(model, CODE)) == {"g", "s", "get(", "getN", "get.x"}


def test_a_member_that_begins_another_stays_open(model) -> None:
    found = allowed(model, law_of(model, CODE), "get")
    assert "N" in found and "(" in found and "." in found and "<|endoftext|>" in found
    assert not found & (set(letters()) - {"N"})
    assert allowed(model, law_of(model, CODE), "getNam") == {"e"}
    assert "get(" not in allowed(model, law_of(model, CODE), "ge")


def test_a_prompt_that_begins_a_name_is_completed(model) -> None:
    assert allowed(model, law_of(model, CODE + "getNa")) == {"m"}
    # What is no member is not mended.
    assert len(allowed(model, law_of(model, CODE + "zzz"))) > 100


@pytest.mark.parametrize("prompt", [
    "x = 1.", "other.", "# obj.", "'obj.", "print('obj.", "obj", "...", "```\nobj.x\n```\nobj.",
    "# obj.\n", "(\nobj.\n",
])  # fmt: skip
def test_elsewhere_nothing_changes(model, prompt: str) -> None:
    law, scores = law_of(model, prompt), torch.randn(model.adapted.vocab_size)
    found = law.process(scores.clone(), [])
    held = {n for n, text in enumerate(law._tokens.texts) if "." in text and len(text) > 1}
    same = [n for n in range(len(scores)) if n not in held]
    assert torch.equal(found[same], scores[same])
    if prompt != "obj":
        # ".put" may follow whatever has no members that are known.
        assert ".put" in allowed(model, law_of(model, prompt))


def test_it_is_told_alike_whatever_was_guessed_before(model) -> None:
    prompt, law = "Code:\n```\nx = ", law_of(model, "Code:\n```\nx = ")
    for written in ("obj.", "obj.g", "'obj.", "'obj'\n", "'obj'\nobj.", "obj.s", "obj.x\n```\nobj.",
                    "obj.x\n```\n```\nobj.", '""', '""" obj.', '"" + obj.', "",
                    "# obj.\nobj."):  # fmt: skip
        assert allowed(model, law, written) == allowed(model, law_of(model, prompt), written)


def test_what_was_asked_is_kept_without_the_code(model, monkeypatch) -> None:
    asked: list[str] = []

    def names(project: str, text: str, *_: object) -> frozenset[str]:
        asked.append(text)
        return frozenset({"get"})

    monkeypatch.setattr(sources, "_completions", names)
    prompt = "y = 1\n" * 50
    law = law_of(model, prompt, Monitor())
    for written in ("a.", "a.g", "a.ge", "a.", "b.", "a.g"):
        assert len(allowed(model, law, written)) < 100
    # The token "get.x" holds a dot of its own.
    assert asked == [prompt + code for code in ("a.", "a.get.", "b.", "b.get.")]
    assert all(sum(map(len, map(repr, key))) < 50 for key in law._known)


def test_tokens_that_hold_the_dot_do_not_pass_by(model) -> None:
    found = allowed(model, law_of(model, "obj"))
    assert ".get" in found and ".put" not in found and "obj.set" in found
    assert "obj.put" not in allowed(model, law_of(model, "x = "))
    assert {"x.y", "1.e", "'.py"} <= allowed(model, law_of(model, "x = "))
    assert "x.y" in found


def test_the_longest_name_that_is_known_counts(model) -> None:
    assert allowed(model, law_of(model, "self.items.")) == {"a"}
    assert len(allowed(model, law_of(model, "items."))) > 100


@pytest.mark.parametrize("beside", ["full", "lookup"])
def test_texts_follow_the_table(model, beside: str) -> None:
    recipe = [*parse(beside).methods, Monitor.of({"obj": ["alpha", "beta"]})]
    for seed in range(3):
        found = model.generate("x = obj.", recipe, temperature=1.0, seed=seed, max_new_tokens=12)
        name = re.match(r"[a-z]*", found.text).group()  # type: ignore[union-attr]
        assert name in ("alpha", "beta") and not found.text[len(name) :][:1].isalnum()
    figures = found.metrics.figures
    assert figures["monitor: tokens under a mask"] >= 5 and not found.metrics.notes


def test_jedi_knows_the_code_before_the_dot(model) -> None:
    code = (
        "class Box:\n    def width_of(self): pass\n    def wide(self): pass\n\nbox = Box()\nbox.w"
    )
    assert allowed(model, law_of(model, code, Monitor())) == {"i"}
    assert allowed(model, law_of(model, code + "id", Monitor())) == {"t", "e"}
    # Inside of brackets that are open.
    found = allowed(model, law_of(model, code[: code.rindex("\n")] + "\nprint([box.", Monitor()))
    assert "w" in found and "z" not in found


def test_a_project_is_known(model, tmp_path: Path) -> None:
    (tmp_path / "shapes.py").write_text("class Box:\n    def zyx(self): pass\n", "utf-8")
    method = Monitor(project=str(tmp_path))
    assert "z" in allowed(model, law_of(model, "import shapes\nshapes.Box().", method))


def test_files_lie_under_the_home_folder(model, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "shapes.py").write_text("class Box:\n    def zyx(self): pass\n", "utf-8")
    (tmp_path / "m.json").write_text('{"obj": ["q"]}', "utf-8")
    assert allowed(model, law_of(model, "obj.", Monitor(members="~/m.json"))) == {"q"}
    found = allowed(model, law_of(model, "import shapes\nshapes.Box().", Monitor(project="~/lib")))
    assert "z" in found and "y" not in found
    with pytest.raises(RecipeError, match="no such folder"):
        model.plan("monitor(project=~/none)")


def test_a_server_that_fails_masks_nothing_and_says_so_once(model, monkeypatch) -> None:
    def fails(*_: object) -> frozenset[str]:
        raise RuntimeError("the subprocess has crashed\nmore")

    monkeypatch.setattr(sources, "_completions", fails)
    found = model.generate("a.b\nx.", "monitor", max_new_tokens=8, stop_ids=[])
    plain = model.generate("a.b\nx.", max_new_tokens=8, stop_ids=[])
    notes = [note for note in found.metrics.notes if "monitor" in note]
    assert len(notes) == 1 and "the subprocess has crashed" in notes[0]
    assert found.token_ids == plain.token_ids


def test_a_server_that_hangs_is_asked_once(model, monkeypatch) -> None:
    calls: list[int] = []

    def hangs(*_: object) -> frozenset[str]:
        import time

        calls.append(1)
        time.sleep(0.5)
        return frozenset({"a"})

    monkeypatch.setattr(sources, "_completions", hangs)
    law = law_of(model, "x.", Monitor(seconds=0.01))
    assert len(allowed(model, law)) > 100 and len(allowed(model, law, "y.")) > 100
    assert len(calls) == 1 and "no answer within 0.01 s" in law.notes[0]


@pytest.mark.parametrize("recipe, said", [
    ("monitor(members=absent.json)", "there is no such file"),
    ('monitor(members="{")', "is no JSON"),
    ('monitor(members="{\\"a\\": 1}")', "is no table of members"),
    ('monitor(members="{\\"a\\": [\\"b c\\"]}")', "each member an identifier"),
    ("monitor(project=absent)", "there is no such folder"),
    ('monitor(members="{}", seconds=2)', "does nothing without a language server"),
])  # fmt: skip
def test_what_cannot_be_asked_is_refused(model, recipe: str, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        model.plan(recipe)


def test_without_jedi_or_a_tokenizer(model, monkeypatch) -> None:
    with pytest.raises(Refused, match="no tokenizer"):
        lengthwise.wrap(tiny_model("llama")).plan("monitor")
    monkeypatch.setitem(__import__("sys").modules, "jedi", None)
    with pytest.raises(RecipeError, match="lengthwise\\[monitor\\]"):
        model.plan("monitor")


@pytest.mark.parametrize("check", [
    decoders.check_law_by_path, decoders.check_decoder_batch, decoders.check_law_identity,
])  # fmt: skip
def test_laws_of_decoders(check) -> None:
    check(Monitor, written_model().adapted)
