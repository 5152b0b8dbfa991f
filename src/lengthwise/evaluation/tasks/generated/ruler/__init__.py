"""RULER: thirteen tasks of any length, a file a family."""
