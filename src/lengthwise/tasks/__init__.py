"""What quality is measured on: the user's own document, and probes planted inside it."""

from lengthwise.tasks.documents import Document, read_document
from lengthwise.tasks.probes import Probe, ProbeSet, probe_context

__all__ = ["Document", "Probe", "ProbeSet", "probe_context", "read_document"]
