"""Judges that are asked: prompts for a judging model, and how what it says is read.

    judge      what a judge is, and the registry of them
    answers    JSON and marks in what a judge said
    rating     1 to 10, of one reply
    pair       which of two replies is better, asked in both orders
    errors     a list of errors and the score they cost
    writing    six dimensions of a long text
    qa         an answer against right ones
    summary    key points of a summary, and its sentences

A judge asks no model: `evaluation.runs.judging` does.
"""
