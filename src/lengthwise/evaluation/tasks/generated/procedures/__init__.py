"""Procedures that are written out at length, after LongProc: a file a procedure."""
