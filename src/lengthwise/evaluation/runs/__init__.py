"""Benchmarks under recipes: samples, replies, scores, and a file that a killed run goes on from.

evaluate    the loop: tasks, lengths and depths, each sample under every recipe
replies     what a recipe answers, a context that samples share read once
run_file    a line a sample, on the disk as it is done
"""
