"""Clock, bytes, comparisons and the reports made of them."""

from lengthwise.measure.choice import Choice
from lengthwise.measure.origin import Origin
from lengthwise.measure.rows import Row, Rows

__all__ = ["Choice", "Origin", "Row", "Rows"]
