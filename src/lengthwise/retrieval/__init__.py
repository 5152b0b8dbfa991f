"""Finds text: earlier places of the end of a text, and the passages a question is about.

    a growing text --> suffix index, suffix automaton --> places where its end stood before
    a corpus       --> datastore (a file)             --> places, and what follows there
    a long prompt  --> passages                       --> the chunks nearest to its question

- `suffix_index`: the most recent places of the longest matches, several at once.
- `suffix_automaton`: the earliest place of the longest match, of any length.
- `datastore`: the tokens of a corpus and their suffix array, memory-mapped.
- `ngrams`: n-gram models of a text, of drafts and of a datastore.
- `passages`: BM25, or an encoder, over the chunks of a prompt.
- `sentences`, `headings`: where a text may be cut. `stop_words`: which of its words say little.
- `lexical`, `dense`: how near texts are to a question, by words and by vectors.
- `clusters`: k-means of such vectors.

It imports no method and nothing of the engine.
"""
