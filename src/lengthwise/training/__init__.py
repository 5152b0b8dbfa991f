"""Training by length: which row comes when, the step, and what a run leaves.

    config --> trainer --> data (a built data set, a curriculum) --> step --> checkpoint --> export
                  |                                                   |
              log, evaluate                              parallel, context (several ranks)

- `schedules`: learning rates; `positions`, `growth`, `stretches`: runs that change on the way.
- `flexsp`, `flexsp_costs`, `flexsp_groups`, `cost`: what a step costs, and which devices work
  together. `folder`, `signals`: one run at a time, and how it stops.

It imports `sequences`, and methods for the frequencies that a run may change; not the engine.
"""
