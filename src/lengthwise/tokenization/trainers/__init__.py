"""Training tokenizers: from texts to a plain `tokenizer.json`.

    texts --a kind--> merges or pieces --> tokenizers.Tokenizer --> tokenizer.json

A kind is a file of this folder: a frozen dataclass of options with one verb, `train`. What the
`tokenizers` library trains is trained there; `merges` learns what it cannot. `train_tokenizer`
(`training.py`) looks through a corpus, holds a share out, has a kind train, and writes the folder.

    from lengthwise.tokenization.trainers import train_tokenizer

    train_tokenizer("bpe", texts, 8000, "mine")
    transformers.AutoTokenizer.from_pretrained("mine")
"""

from lengthwise.tokenization.trainers.training import Trained, train_tokenizer

__all__ = ["Trained", "train_tokenizer"]
