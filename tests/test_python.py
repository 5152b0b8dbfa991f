"""The Python surface as a person meets it: what may be given, what is shown, what is said."""

from __future__ import annotations

import inspect
import pydoc
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from torch import nn

import lengthwise
from lengthwise.documents.folders import document_from
from lengthwise.errors import DocumentError, LengthwiseError, RecipeError
from lengthwise.evaluation.compare import comparison as measuring
from lengthwise.evaluation.compare.results import Comparison
from lengthwise.evaluation.metrics.row import CompareRow
from lengthwise.recipes import parse
from lengthwise.testing.tiny import tiny_model


@pytest.fixture(scope="module")
def small() -> lengthwise.Model:
    return lengthwise.load(dtype="float32")


@pytest.fixture(scope="module")
def tiny() -> lengthwise.Model:
    return lengthwise.wrap(tiny_model("llama"))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, str]]:
    """(document, recipe, question) of everything `compare` would measure; nothing is run."""
    found: list[tuple[str, str, str]] = []

    def measure(model: Any, case: Any, recipe: str, *_: Any, **__: Any) -> Any:
        for question in case.prompt.questions:
            found.append((model.tokenizer.decode(case.prompt.prefix), recipe, question))
            yield CompareRow(
                recipe=recipe, model="m", dtype="float32", device="cpu", length=case.length,
                question=question,
            )  # fmt: skip

    monkeypatch.setattr(measuring, "_measure", measure)
    return found


def test_one_string_is_one_question_and_one_recipe(
    small: lengthwise.Model, asked: list[tuple[str, str, str]]
) -> None:
    lengthwise.compare(small, "Some text.", "Who?", "kivi", probes=False)
    assert [each[1:] for each in asked] == [("full", "Who?"), ("kivi", "Who?")]
    asked.clear()
    recipes = [parse("kivi + lookup"), "lookup", list(parse("snapkv").methods)]
    lengthwise.compare(small, "Some text.", ["Who?", "Why?"], recipes, 2, probes=False)
    assert [each[1] for each in asked[::2]] == ["full", "kivi + lookup", "lookup", "snapkv"]
    assert [each[2] for each in asked[:2]] == ["Who?", "Why?"]
    with pytest.raises(LengthwiseError, match="questions=5: give a string or a list"):
        lengthwise.compare(small, "Some text.", 5, probes=False)  # type: ignore[arg-type]
    with pytest.raises(LengthwiseError, match="none of them empty"):
        lengthwise.compare(small, "Some text.", ["Who?", ""], probes=False)


def test_a_single_stop_string_is_not_its_letters(small: lengthwise.Model) -> None:
    prompt = [{"role": "user", "content": "Count from one to ten in words."}]
    text = small.generate(prompt, max_new_tokens=12).text
    stop = text[4:9]
    one = small.generate(prompt, max_new_tokens=12, stop=stop)
    assert one.text == small.generate(prompt, max_new_tokens=12, stop=[stop]).text
    assert one.text == text[: text.index(stop)] != ""
    for wrong in ("", ["a", ""], 5, [5]):
        with pytest.raises(LengthwiseError, match="stop=.*give a string or a list"):
            small.generate(prompt, max_new_tokens=2, stop=wrong)  # type: ignore[arg-type]


def test_paths_are_read_wherever_a_document_is_given(
    small: lengthwise.Model, asked: list[tuple[str, str, str]], tmp_path: Path
) -> None:
    (tmp_path / "a.txt").write_text("First of all.")
    (tmp_path / "b.md").write_text("Then the second.")
    paths = [tmp_path / "a.txt", tmp_path / "b.md"]
    for document, words in [
        (paths[0], "First of all."),
        (lengthwise.read(paths[0]), "First of all."),
        (paths, "==> b.md <=="),
        (tmp_path, "/b.md <=="),
        ([lengthwise.read(paths[0]), paths[1]], "==> a.txt <==\n\nFirst of all.\n\n==> b.md <=="),
    ]:
        asked.clear()
        lengthwise.compare(small, document, "Who?", probes=False)
        assert words in asked[0][0], document
    # A Document is a prompt too, and its text cannot end it.
    assert small.encode(lengthwise.read(paths[0])) == small.encode("First of all.")
    sly = lengthwise.Document("sly", "<|im_end|>")
    assert small.encode(sly) == small.encode("<|im_end|>", special="text")
    assert small.encode(sly) != small.encode("<|im_end|>")


def test_the_name_of_a_file_is_not_measured_as_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes").write_text("text")
    for name in ("x.pdf", "folder/report.md", "notes", "."):
        with pytest.raises(DocumentError, match="looks like the name of a file.*lengthwise.read"):
            document_from(name)
    for text in ("one two.txt", "x.pdf is a file\n", "x", "e.g."):
        assert document_from(text).text == text
    for wrong in (5, ["a", "b"], [], b"text"):
        with pytest.raises(DocumentError, match="a document of .*lengthwise.read"):
            document_from(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda m: lengthwise.wrap(None), "was given None.*AutoModelForCausalLM"),
        (lambda m: lengthwise.wrap("name"), "a str: give that name to lengthwise.load"),
        (lambda m: lengthwise.wrap(nn.Linear(2, 2)), "Linear.*AutoModelForCausalLM"),
        (lambda m: lengthwise.wrap(m), "wrapped already"),
        (lambda m: lengthwise.wrap(m.adapted.model, "name"), "tokenizer of type str"),
        (lambda m: lengthwise.check(None), "was given None"),
        (lambda m: lengthwise.load(m.adapted.model), "lengthwise.wrap"),
        (lambda m: lengthwise.load(3), "load of a int: give a folder"),
        (lambda m: lengthwise.load(Path("/no/such/folder")), "no such folder"),
        (lambda m: m.generate(None), r"no prompt \(None\); allowed are text"),
        (lambda m: m.generate(Path("x.pdf")), r"lengthwise.read\(path\)"),
        (lambda m: m.generate_batch("text"), "give a list of prompts"),
        (lambda m: m.generate_batch(None), "give a list of prompts"),
        (lambda m: m.generate([5], ["full", "kivi"]), r"a list of recipes \(2\) for one prompt"),
        (lambda m: m.generate([5], max_length=3), "'max_length' is no option.*max_new_tokens"),
        (lambda m: m.generate([5], temprature=1), "did you mean temperature"),
        (lambda m: m.generate_batch([[5]], sed=1), "no option of generate_batch.*seed"),
        (lambda m: lengthwise.custom_generate(stops="x"), "did you mean stop"),
        (lambda m: lengthwise.compare(m.adapted.model), "compare of a Llama.*lengthwise.load"),
    ],
)  # fmt: skip
def test_what_is_wanted_is_named(tiny: lengthwise.Model, call: Any, words: str) -> None:
    with pytest.raises(LengthwiseError, match=words) as error:
        call(tiny)
    assert "\n" not in str(error.value)


def public() -> list[tuple[str, Any]]:
    """Every function of the package, and every method of its model."""
    found = [(name, getattr(lengthwise, name)) for name in lengthwise.__all__]
    functions = [(name, each) for name, each in found if inspect.isfunction(each)]
    methods = inspect.getmembers(lengthwise.Model, inspect.isfunction)
    return functions + [(n, each) for n, each in methods if not n.startswith("_")]


@pytest.mark.parametrize(("name", "function"), public())
def test_public_signatures_name_and_type_their_options(name: str, function: Any) -> None:
    parameters = inspect.signature(function).parameters.values()
    for each in parameters:
        assert each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL), f"{name}(*{each.name})"
        if each.name != "self":
            assert each.annotation is not each.empty, f"{name}({each.name})"
    if name in ("generate", "generate_batch", "stream", "astream"):
        named = {each.name for each in parameters}
        assert {"recipe", "temperature", "top_k", "top_p", "min_p", "seed", "stop"} <= named
    assert function.__doc__


def test_help_lists_the_functions() -> None:
    text = pydoc.plain(pydoc.render_doc(lengthwise))
    for name in ("load", "wrap", "read", "check", "compare", "custom_generate", "drafting_model"):
        assert re.search(rf"^    {name}\(", text, re.MULTILINE), name
        assert f"`{name}`" in lengthwise.__doc__ or f"lengthwise.{name}(" in lengthwise.__doc__
    for name in ("Model", "Comparison", "Document"):
        assert f"class {name}" in text
    assert "top_k: 'int' = 0" in text and set(lengthwise.__all__) <= set(dir(lengthwise))


def test_importing_and_reading_do_not_wait_for_torch(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text")
    code = f"""import sys, lengthwise
dir(lengthwise), lengthwise.read({str(tmp_path / "a.txt")!r}), lengthwise.LengthwiseError
assert not {{"torch", "transformers", "pypdf", "docx", "bs4"}} & set(sys.modules)"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_model_says_what_it_is(tiny: lengthwise.Model, small: lengthwise.Model) -> None:
    assert repr(small) == (
        "<Model SmolLM2-135M-Instruct: llama, 134.5M parameters, float32 on cpu, trained to 8,192 "
        "tokens>"
    )
    assert repr(tiny).endswith("no tokenizer>")
    page = small._repr_html_()
    for words in ("SmolLM2-135M-Instruct", "134.5M", "float32", "8,192 tokens", "<table>"):
        assert words in page


def test_rows_show_their_table_and_their_report() -> None:
    row = CompareRow(
        recipe="kivi", model="m", dtype="float32", device="cpu", length=512, ttft_s=1.5,
        question="Who?", answer="<b>Nobody</b>", kv_bytes=1000,
    )  # fmt: skip
    rows = Comparison([row], "report.pdf", 8192)
    assert repr(rows).startswith("<Comparison of report.pdf: 1, 1 recipes, at 512 tokens>")
    assert "kivi" in repr(rows) and "Nobody" in repr(rows) and len(repr(rows).splitlines()) > 4
    assert max(map(len, repr(rows).splitlines())) <= 100
    assert repr(Comparison()) == "<Comparison of no document: 0, 0 recipes>"
    page = rows._repr_html_()
    assert page.startswith("<iframe srcdoc=") and "kivi" in page
    # Nothing of it gets out of its frame.
    assert "<b>" not in page and page.count("<") == 2


def test_a_recipe_that_is_none_says_what_it_may_be(tiny: lengthwise.Model) -> None:
    for wrong in (None, 5, Path("lookup")):
        with pytest.raises(RecipeError, match="give its text"):
            tiny.generate([5], wrong)
