"""Small helpers that any room may use. They import nothing of lengthwise but its errors.

names       registry (entry points), declared (read, not imported), suggestions, papers
files       files (whole or not at all), cache_folder
messages    messages (one line of an error), progress
numbers     counter_rng, text_encoder
"""
