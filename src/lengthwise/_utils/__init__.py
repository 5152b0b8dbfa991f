"""Small helpers that any room may use. They import nothing of lengthwise but its errors.

    every room --> _utils: registry, papers, files, outputs, progress, counter_rng, ... --> errors

What belongs to one room alone stays in that room.
"""
