"""What prompts of a model begin with, read once and held for all of them.

`tree` is the radix tree over token ids, `cache` gives a sequence what of its prompt is there,
`weights` tells whether the model is still the same.
"""
