"""C++ in the sandbox."""

from __future__ import annotations

import pytest

from lengthwise.evaluation.sandbox import cpp
from lengthwise.evaluation.sandbox.cpp import compiled, compiler_missing
from lengthwise.evaluation.sandbox.limits import Limits

SUM = "#include <iostream>\nint main() { int a, b; std::cin >> a >> b; std::cout << a + b; }"
needs_compiler = pytest.mark.skipif(bool(compiler_missing()), reason="no C++ compiler")


@needs_compiler
def test_a_program_is_compiled_once_and_run_for_each_input() -> None:
    program = compiled(SUM)
    assert [program.run(text).stdout for text in ("1 2", "5 6")] == [b"3", b"11"]
    wrong = compiled("int main() { return x; }")
    assert wrong.binary is None and "x" in wrong.said and wrong.run("").verdict == "failed"
    loops = compiled("int main() { for (volatile int i = 0;; i++); }")
    assert loops.run("", Limits(seconds=0.5)).verdict == "timeout"


@needs_compiler
def test_a_program_cannot_be_made_of_files_outside(tmp_path) -> None:
    huge = compiled("char x[1000000000] = {1}; int main() {}")
    assert huge.binary is None


def test_a_compiler_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpp.shutil, "which", lambda name: None)
    assert compiler_missing() == "a C++ compiler: install one of g++, c++, clang++"
