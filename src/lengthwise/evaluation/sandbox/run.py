"""Programs in the sandbox: any executable, or Python with checks.

run_program(["/usr/bin/sort"], stdin="b\\na\\n")
run_python("def twice(x):\\n    return 2 * x", "assert twice(2) == 4").passed
"""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence as Seq
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

from lengthwise._utils.messages import last_line
from lengthwise.errors import LengthwiseError
from lengthwise.evaluation.sandbox.limits import Limits, Ran

ALLOW = "HF_ALLOW_CODE_EVAL"
_HERE = Path(__file__).parent
# The guard alone is imported, without what the package imports.
_START = (
    "import sys, types; made = sys.modules['lengthwise'] = types.ModuleType('lengthwise'); "
    f"made.__path__ = [{str(_HERE.parents[1])!r}]; "
    "from lengthwise.evaluation.sandbox.guard import main; main()"
)
_PATH = "/usr/local/bin:/usr/bin:/bin"
# Beside the program's own seconds: to start, to end what it left, on a machine with other work.
_GRACE = 30.0


def code_missing() -> str:
    """What running generated code needs that is not there: words that follow "needs", or "".

    It needs a system with limits for processes, and the user's leave: the environment variable
    HF_ALLOW_CODE_EVAL=1, which the `evaluate` library and lm-evaluation-harness ask for too.
    """
    if os.name != "posix":
        return "a sandbox, which runs on Linux and macOS alone"
    if os.environ.get(ALLOW) != "1":
        return (
            f"leave to run the code that a model writes: set the environment variable {ALLOW}=1 "
            "(it runs in a sandbox; docs/evaluation.md says what that does not protect from)"
        )
    return ""


def run_program(
    argv: Seq[str],
    *,
    stdin: str = "",
    files: Mapping[str, str | bytes] | None = None,
    limits: Limits | None = None,
    fetch: str = "",
    namespaces: bool = True,
) -> Ran:
    """Runs a program in a fresh folder, without the user's environment, under limits.

    Args:
        argv: an absolute path, or the name of one of `files`, and its arguments.
        stdin: what it reads.
        files: put into its folder: texts, or bytes that can be run.
        limits: what it may use.
        fetch: a file that it makes in its folder, which is given back.
        namespaces: False does without those of the kernel, as where they are not allowed.

    Returns:
        How it ended, "ended" where it did so by itself with exit code 0.

    Raises:
        LengthwiseError: on Windows, and where it cannot be started.
    """
    found = _run(argv, stdin, dict(files or {}), limits or Limits(), fetch, namespaces)
    return _ran(found, "ended" if found["code"] == 0 else "failed")


def run_python(
    program: str, checks: str = "", *, limits: Limits | None = None, namespaces: bool = True
) -> Ran:
    """Runs Python, and then checks with the names that it made.

    Only the standard library is there. The program is no `__main__`.

    Args:
        program: its text.
        checks: statements that raise where it is wrong.
        limits: what it may use.
        namespaces: as in `run_program`.

    Returns:
        How it ended, "passed" where all of both ran to their end.

    Raises:
        LengthwiseError: as `run_program` does.
    """
    offline = not (namespaces and "network" in guards())
    files: dict[str, str | bytes] = {
        "runner.py": (_HERE / "runner.py").read_text("utf-8"),
        # What no file can hold fails by itself there.
        "program.py": program.encode("utf-8", "replace").decode(),
        "checks.py": checks.encode("utf-8", "replace").decode(),
    }
    argv = [
        _python(), "-I", "-S", "-B", "runner.py", "{told}", "program.py", "checks.py",
        "offline" if offline else "alone",
    ]  # fmt: skip
    found = _run(argv, "", files, limits or Limits(), "", namespaces)
    if offline:
        found["guards"].append("audit")
    try:
        told = json.loads(found["told"])
    except (ValueError, RecursionError):
        told = {"verdict": "failed" if found["code"] else "exited", "detail": ""}
    if told["verdict"] == "passed" and found["code"] != 0:
        told["verdict"] = "exited"
    return _ran(found, told["verdict"], told["detail"])


@lru_cache(maxsize=1)
def guards() -> tuple[str, ...]:
    """What keeps programs in on this machine, as `Ran.guards` has it; found by running one."""
    return run_program([_python(), "-I", "-S", "-c", "pass"], limits=Limits(seconds=20)).guards


def _run(
    argv: Seq[str], stdin: str, files: dict[str, str | bytes], limits: Limits, fetch: str,
    namespaces: bool,
) -> dict[str, Any]:  # fmt: skip
    if os.name != "posix":
        raise LengthwiseError(f"generated code needs {code_missing()}")
    with tempfile.TemporaryDirectory(
        prefix="lengthwise-", ignore_cleanup_errors=True
    ) as folder:  # fmt: skip
        command = [os.path.join(folder, argv[0]) if argv[0] in files else argv[0], *argv[1:]]
        job = {
            "argv": command, "stdin": stdin, "folder": folder, "fetch": fetch,
            "limits": asdict(limits), "namespaces": namespaces,
            "texts": {name: text for name, text in files.items() if isinstance(text, str)},
            "binaries": {
                name: base64.b64encode(raw).decode()
                for name, raw in files.items() if isinstance(raw, bytes)
            },
            "environment": {"HOME": folder, "TMPDIR": folder, **_environment()},
        }  # fmt: skip
        found = _guarded(job, limits.seconds + _GRACE)
    if found.get("error"):
        raise LengthwiseError(f"the sandbox cannot start {argv[0]} ({found['error']})")
    return found


def _guarded(job: dict[str, Any], seconds: float) -> dict[str, Any]:
    """The report of the guard, which is killed with all that it holds where none comes."""
    guard = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _START], stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True, text=True,
        encoding="utf-8", cwd="/", env=_environment(),
    )  # fmt: skip
    try:
        out, err = guard.communicate(json.dumps(job), seconds)
    except subprocess.TimeoutExpired:
        return {"over": "timeout", "told": "", "code": None, "signal": 0, "guards": []}
    finally:
        if guard.poll() is None:
            guard.kill()
            guard.wait()
    if guard.returncode < 0:
        # A program of the same user may kill its guard, where nothing hides it; what it started
        # may then be left.
        why = f"its guard was ended by signal {-guard.returncode}"
        return {"over": "killed", "note": why, "told": "", "code": None, "signal": 0, "guards": []}
    if guard.returncode:
        return {"error": last_line(err, f"its guard ended with {guard.returncode}")}
    found: dict[str, Any] = json.loads(out)
    return found


def _ran(found: Mapping[str, Any], verdict: str, detail: str = "") -> Ran:
    number = int(found["signal"])
    if found["over"]:
        verdict, detail = str(found["over"]), str(found.get("note", ""))
    elif number:
        late = {int(signal.SIGXCPU): "timeout", int(signal.SIGXFSZ): "disk"}
        verdict = late.get(number, "killed")
        known = number in {each.value for each in signal.Signals}
        detail = signal.Signals(number).name if known else f"signal {number}"
    fetched = found.get("fetched")
    return Ran(
        verdict, detail, found["code"], base64.b64decode(found.get("stdout", "")),
        str(found.get("stderr", "")), None if fetched is None else base64.b64decode(fetched),
        tuple(found["guards"]),
    )  # fmt: skip


def _environment() -> dict[str, str]:
    """Nothing of the user's but where this interpreter's libraries are."""
    kept = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
    return {"PATH": _PATH, "LANG": "C.UTF-8", **kept}


def _python() -> str:
    """The interpreter itself, not the link of a virtual environment, which others may not reach."""
    return str(getattr(sys, "_base_executable", "") or sys.executable)


__all__ = ["ALLOW", "code_missing", "guards", "run_program", "run_python"]
