"""Many requests of many users, on one model.

`engine` is the thread that runs the model, `scheduler` what it does in a round.
"""
