"""lengthwise: one axis of language models, how long the sequence is."""
