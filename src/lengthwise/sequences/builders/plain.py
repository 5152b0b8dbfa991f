"""What builders have in common that need nothing but lengths: no special tokens, no names."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from lengthwise.sequences.encoder import Encoder
from lengthwise.sequences.orders import Order
from lengthwise.sequences.token_store import TokenStore

LONGEST = 10**9
"""Tokens of a row at most: places in a row group are numbers of 32 bits."""


class Plain:
    """Quiet answers to what a builder is asked beside `build`."""

    target_token: ClassVar[bool] = False
    later: ClassVar[dict[str, str]] = {}
    _seed = 0

    @property
    def tokens(self) -> tuple[str, ...]:
        return ()

    def prepare(self, store: TokenStore, encoder: Encoder, seed: int) -> None:
        self._seed = seed

    def arrange(self, order: Order, store: TokenStore, folder: Path) -> Order:
        return order

    def inseparable(self, first: int, second: int) -> bool:
        return False
