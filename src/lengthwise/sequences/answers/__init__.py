"""Questions with answers as rows to train on: one way to write them a file.

`lengthwise sequences answers` makes rows of a file of pairs, and `lengthwise train` trains on them.
What is predicted is the answer, with whatever token it begins with, and the end of the turn.
"""
