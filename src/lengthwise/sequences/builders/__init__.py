"""Sequence builders: how documents become rows, one file an idea.

    cut anywhere    concat                  whole documents     best_fit
    by powers       decompose               code with its test  pair
    cut and tied    utk, by way of knots

`base` is the contract; `plain` is what builders share that need nothing but lengths.
"""
