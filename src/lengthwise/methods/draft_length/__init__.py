"""Draft length: how many tokens are drafted and verified at a step.

`goodput` goes by seconds measured here, `fixed` by a number, and `specdec` by the probability that
some guess is wrong. A policy prunes the tree of all drafters; `_shared/` holds the head that
`specdec` learns.
"""
