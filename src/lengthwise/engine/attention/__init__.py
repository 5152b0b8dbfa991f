"""Exact attention over parts: keys that share a rule, merged in one softmax.

`attend` is the only place that multiplies queries by keys. `scores` is its readable twin, and what
is read off scores. The ways to do it are `engine.kernels`.
"""
