"""SWE: sub-words by likelihood; a merge is chosen by how much likelier it makes the corpus.

Fuwen Tan and Fei Chu?
"""
