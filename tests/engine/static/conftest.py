from __future__ import annotations

import pytest

from tests.engine.static.begun import Steps


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Steps:
    return Steps(monkeypatch)
