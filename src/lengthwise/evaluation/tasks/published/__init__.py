"""Benchmarks of published data files: read as they are laid out, scored as their authors do.

Files are given with `data=`, or fetched from the hub. Prompts say what the published ones say in
words of ours, so figures are near those of papers and not equal to them. A document that is too
long loses its middle, and a sample says how many tokens (`cut_tokens`).
"""
