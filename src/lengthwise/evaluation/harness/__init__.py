"""The tasks of lm-evaluation-harness (Gao et al., Zenodo 10.5281/zenodo.12608602) under recipes.

    model       a model of ours as one of the harness's, under one recipe
    arguments   its model_args, and what a task may ask of a text that is written
    cuts        samples longer than the model, counted
    tasks       tasks by name, loaded once
    run         tasks under several recipes, sample by sample
    hushed      the harness's own bars and lines, kept off a terminal
    outcome     what one recipe got on one task
    run_file    what is done of a run, on the disk
    scores      a row a task and metric: scores of recipes, and what differs from full

The package lm_eval is imported by model, tasks and run alone.
"""
