"""Training tokenizers: from texts to a plain `tokenizer.json`.

    texts --a kind--> merges or pieces --> tokenizers.Tokenizer --> tokenizer.json

A kind is a file of this folder: a frozen dataclass of options with one verb, `train`. What the
`tokenizers` library trains is trained there; `merges` learns what it cannot.
"""
