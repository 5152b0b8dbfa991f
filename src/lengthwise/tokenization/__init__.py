"""Between tokens and text.

    tokens --detokenise--> text as it streams
    tokens of one vocabulary --translation--> text --> tokens of another

- `detokenise`: text of tokens as they come, up to a stop string.
- `translation`: what a drafter with another tokenizer reads, and its guesses in target tokens.
- `equal_info`: windows of arithmetic code as tokens; `byte_laws` are what their coder asks.
- `code_units`: which tokens of a source text are one identifier.
"""
