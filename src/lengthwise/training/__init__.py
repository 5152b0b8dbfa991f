"""Training by length: schedules, the trainer, and the planner of sequence-parallel groups.

    TOML --config--> trainer: data --> step (on all ranks) --> update at a rate of schedules
                     --> log, evaluate, checkpoint --export--> a folder that transformers loads
    lengths of a batch --flexsp--> which devices form a group, and who gets which sequence

`schedules` and `flexsp` can be used without a run.
"""
