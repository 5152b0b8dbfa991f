"""Budgets, by the name under which methods know them; see `_utils/budget.py`."""

from lengthwise._utils.budget import UNITS, Budget, bytes_in

__all__ = ["UNITS", "Budget", "bytes_in"]
