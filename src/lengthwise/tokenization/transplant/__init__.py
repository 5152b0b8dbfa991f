"""Changing a model's tokenizer: the rows of its embeddings for another vocabulary.

`surgery.py` does it, `method.py` says what a way of making new rows is, one file each. `extend.py`
and `trim.py` make a new tokenizer out of the model's own; `loss.py` tells what a change costs.
"""
