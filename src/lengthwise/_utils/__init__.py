"""Small helpers that any room may use. They import nothing of lengthwise but its errors.

    every room --> _utils: registry, papers, files, outputs, progress, counter_rng, ... --> errors

Each module is one helper and says what it does in its first line.
"""
