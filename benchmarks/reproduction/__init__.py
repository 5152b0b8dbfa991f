"""The small checks that reproduction pages quote, one file a method, in the folder of its question.

    python -m benchmarks.reproduction codecs/kivi

runs a check, prints its tables and writes them to results/; `--list` names all. harness.py is what
a file needs, tables.py how rows become the tables of a page (docs/figures.py fills them).
"""
