"""Benchmarks whose samples are made: any length, any tokenizer, from a seed."""
