"""The sandbox: what a model may write by accident ends soon, with a verdict, and leaves nothing."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from lengthwise.errors import LengthwiseError
from lengthwise.evaluation.sandbox import run
from lengthwise.evaluation.sandbox.limits import MB, VERDICTS, Limits
from lengthwise.evaluation.sandbox.run import code_missing, guards, run_program, run_python

# Seconds enough for a loaded machine; what never ends is given few.
SHORT = Limits(seconds=20, memory=400 * MB, disk=4 * MB, output=100_000)
CHECK = "assert twice(2) == 4"
RIGHT = "def twice(x):\n    return 2 * x\n"
# Where the kernel allows no namespaces these tests still hold: both ways of running are asked for.
WAYS = [True, False] if "processes" in guards() else [False]
ways = pytest.mark.parametrize("namespaces", WAYS)


def verdict(program: str, namespaces: bool = True, seconds: float = 20) -> str:
    limits = replace(SHORT, seconds=seconds)
    found = run_python(program, CHECK, limits=limits, namespaces=namespaces)
    assert found.verdict in VERDICTS, found
    return found.verdict


@ways
def test_a_right_program_passes_and_a_wrong_one_does_not(namespaces: bool) -> None:
    found = run_python(RIGHT + "print('said')", CHECK, limits=SHORT, namespaces=namespaces)
    assert found.passed and found.stdout == b"said\n" and found.code == 0
    wrong = run_python("def twice(x):\n    return x", CHECK, limits=SHORT, namespaces=namespaces)
    assert (wrong.verdict, wrong.detail) == ("failed", "AssertionError: ")
    assert verdict("def twice(x) return", namespaces=namespaces) == "failed"
    assert verdict("def twice(x):\n    return input()", namespaces=namespaces) == "failed"
    assert verdict("\ud800 = 1", namespaces=namespaces) == "failed"


ENDINGS = {
    "exits": ("import os; os._exit(0)", "exited"),
    "leaves": ("import sys; sys.exit(0)", "exited"),
    "exits inside a check": ("import os\ndef twice(x): os._exit(0)", "exited"),
    "replaces the exit": ("import os, json\nos._exit = json.dumps = print", "failed"),
    "replaces the pipe": ("import os, builtins\nos.write = builtins.exec = lambda *a: 1", "failed"),
    "replaces errors": ("import builtins\nbuiltins.BaseException = ValueError", "failed"),
    "closes its files": ("import os\nos.closerange(0, 60)\n" + RIGHT, "failed"),
    "closes its output": ("import sys\nsys.stdout.close()\n" + RIGHT, "passed"),
    "loops": ("while True: pass", "timeout"),
    "sleeps": ("import time; time.sleep(60)", "timeout"),
    "ignores signals": (
        "import signal, time\n[signal.signal(n, 1) for n in (1, 2, 15)]\ntime.sleep(60)",
        "timeout",
    ),
    "allocates": ("x = bytearray(2 * 10**9)", "memory"),
    "grows": ("x = []\nwhile True: x.append(bytes(10**6))", "memory"),
    "writes": ("f = open('big', 'wb')\nfor _ in range(4000): f.write(bytes(10**6))", "disk"),
    "prints": ("while True: print('x' * 1000)", "output"),
    "crashes": ("import os; os.kill(os.getpid(), 11)", "killed"),
    "opens many files": ("x = [open(__import__('os').devnull) for _ in range(500)]", "failed"),
    "recurses": ("def f(): f()\nf()", "failed"),
}  # fmt: skip


OUTSIDE = ("exits", "loops", "allocates", "writes", "prints", "crashes")


@pytest.mark.parametrize("name", ENDINGS)
def test_how_a_program_ends_has_a_name(name: str) -> None:
    program, wanted = ENDINGS[name]
    for namespaces in WAYS if name in OUTSIDE else WAYS[:1]:
        seconds = 0.3 if wanted == "timeout" else 20
        assert verdict(program, namespaces, seconds) == wanted


@ways
def test_nothing_outside_is_deleted_or_written(namespaces: bool, tmp_path: Path) -> None:
    if not namespaces and not {"user", "landlock"} & set(guards()):
        pytest.skip("a user's own files can then be deleted, as the docs say")
    kept = tmp_path / "kept"
    kept.write_text("years of work")
    if namespaces or "user" in guards():
        # Landlock alone leaves the modes of a user's files to be changed.
        modes = f"import os\nos.chmod({str(kept)!r}, 0o777)"
        assert verdict(modes, namespaces=namespaces) == "outside"
    assert verdict(f"import os\nos.remove({str(kept)!r})", namespaces=namespaces) == "outside"
    assert verdict(f"open({str(kept)!r}, 'w')", namespaces=namespaces) == "outside"
    quiet = f"import shutil\nshutil.rmtree({str(tmp_path)!r}, ignore_errors=True)\n" + RIGHT
    assert verdict(quiet, namespaces=namespaces) == "passed"
    assert kept.read_text() == "years of work"


@ways
def test_its_folder_is_fresh_and_goes(namespaces: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "a key")
    program = (
        "import os\nprint(os.getcwd(), os.environ['HOME'], os.environ['TMPDIR'])\n"
        "print('SECRET' in os.environ, os.path.expanduser('~'))\nopen('x', 'w').write('y')\n"
        "os.mkdir('deep'); os.symlink('/', 'deep/root'); os.chmod('deep', 0)\n" + RIGHT
    )
    found = run_python(program, CHECK, limits=SHORT, namespaces=namespaces)
    folder, home, temporary, secret, own = found.stdout.decode().split()
    assert found.passed and folder == home == temporary == own and secret == "False"
    assert not Path(folder).exists()


@ways
def test_no_network(namespaces: bool) -> None:
    connect = "import socket\nsocket.create_connection(('127.0.0.1', 9), 1)"
    names = "import socket\nsocket.getaddrinfo('localhost.example', 80)"
    found = [verdict(each, namespaces=namespaces) for each in (connect, names)]
    assert found == ["network", "network"]


@ways
def test_forks_are_few_and_all_are_killed(namespaces: bool) -> None:
    assert verdict("import os\nwhile True: os.fork()", namespaces) == "processes"
    mark = uuid4().hex
    bomb = f"import os  # {mark}\nwhile True:\n    try: os.fork()\n    except OSError: pass"
    found = run_program(
        [run._python(), "-I", "-S", "-c", bomb],
        limits=replace(SHORT, seconds=0.3),
        namespaces=namespaces,
    )
    assert found.verdict in ("timeout", "processes")
    assert not [each for each in _commands() if mark in each]


@pytest.mark.parametrize("program", [
    "import os\nos.kill(os.getppid(), 0)", "import os\nos.killpg(os.getpgrp(), 0)",
    "import ctypes\nctypes.CDLL(None).kill(1, 0)",
])  # fmt: skip
def test_without_namespaces_python_signals_itself_alone(program: str) -> None:
    # Signal 0 ends nothing, wherever it is let through.
    assert verdict(f"{program}\n{RIGHT}", namespaces=False) == "outside"


def test_without_namespaces_python_starts_no_other_without_the_audit() -> None:
    spawn = (
        "import multiprocessing\nmultiprocessing.set_start_method('spawn')\n"
        "multiprocessing.Process(target=print).start()\n"
    )
    assert verdict(spawn + RIGHT, namespaces=False) == "processes"
    imports = "import asyncio, multiprocessing, subprocess, uuid\nuuid.uuid4()\n"
    assert verdict(imports + RIGHT, namespaces=False) == "passed"


@ways
def test_daemons_end_with_the_program(namespaces: bool) -> None:
    mark = str(uuid4().int % 10**7 + 10**7)
    daemon = "import os\nif not os.fork():\n    os.setsid()\n    if not os.fork():\n" + (
        f"        os.execv('/bin/sleep', ['sleep', '{mark}'])\n    os._exit(0)\n"
    )
    argv = [run._python(), "-I", "-S", "-c", daemon]
    assert run_program(argv, limits=SHORT, namespaces=namespaces).verdict == "ended"
    assert not [each for each in _commands() if mark in each]


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
@ways
def test_nothing_is_left_when_the_one_who_runs_it_is_killed(namespaces: bool) -> None:
    mark = str(uuid4().int % 10**7 + 10**7)
    call = (
        f"run_program(['/bin/sleep', '{mark}'], limits=Limits(seconds=60), namespaces={namespaces})"
    )
    imports = (
        "from lengthwise.evaluation.sandbox.run import run_program\n"
        "from lengthwise.evaluation.sandbox.limits import Limits\n"
    )
    asker = subprocess.Popen([sys.executable, "-c", imports + call])

    def sleeps() -> bool:
        return any(each.startswith("/bin/sleep") and mark in each for each in _commands())

    assert _soon(sleeps)
    asker.kill()
    asker.wait()
    assert _soon(lambda: not any(mark in each for each in _commands()))


def _soon(holds: Callable[[], bool], seconds: float = 60) -> bool:
    until = time.monotonic() + seconds
    while not holds() and time.monotonic() < until:
        time.sleep(0.02)
    return holds()


def _commands() -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace"))
        except OSError:
            continue
    return found


def test_a_program_is_given_what_it_reads_and_a_file_is_given_back() -> None:
    found = run_program(["/bin/sh", "-c", "cat > made; wc -c < made"], stdin="some text",
                        limits=SHORT, fetch="made")  # fmt: skip
    assert (found.verdict, found.stdout.split(), found.fetched) == ("ended", [b"9"], b"some text")
    link = run_program(["/bin/sh", "-c", "ln -s /etc/passwd made"], limits=SHORT, fetch="made")
    assert (link.verdict, link.fetched) == ("ended", None)
    failed = run_program(["/bin/sh", "-c", "echo no >&2; exit 3"], limits=SHORT)
    assert (failed.verdict, failed.code, failed.stderr) == ("failed", 3, "no\n")
    with pytest.raises(LengthwiseError, match="cannot start /no/such"):
        run_program(["/no/such"])


def test_what_keeps_it_in_is_said() -> None:
    assert set(guards()) <= {"network", "processes", "files", "user", "landlock"}
    found = run_python(RIGHT, CHECK, namespaces=False)
    assert found.passed and "audit" in found.guards and "network" not in found.guards
    if "network" in guards():
        assert "audit" not in run_python(RIGHT, CHECK).guards


def test_running_code_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_ALLOW_CODE_EVAL", raising=False)
    assert "HF_ALLOW_CODE_EVAL=1" in code_missing()
    monkeypatch.setenv("HF_ALLOW_CODE_EVAL", "1")
    assert code_missing() == ""
    monkeypatch.setattr(run.os, "name", "nt")
    assert "Linux and macOS alone" in code_missing()
    with pytest.raises(LengthwiseError, match="Linux and macOS alone"):
        run_python(RIGHT, CHECK)
