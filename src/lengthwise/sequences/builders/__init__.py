"""Sequence builders: how documents become rows, one file an idea."""
