"""Codecs: how keys and values are stored.

    channels (think) --> format (kivi, int8) --> encoded entries of a store

`residual` is what codecs share that leave the newest tokens plain. `quantised` packs numbers into
2, 4 or 8 bits. `pruned` joins a choice of channels with a format.
"""
