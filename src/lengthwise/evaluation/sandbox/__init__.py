"""A sandbox for programs that a model wrote: limits, no network, a folder that goes with them.

    run.run_program   any executable, such as one that a compiler made
    run.run_python    Python with checks, and the verdict
    limits            what a program may use, and the verdicts by name
    cpp               C++: compiled and run
    guard, runner     scripts that run outside of this process: the guard, and Python's inside

It is a fence against accidents and clumsy code, not against an attacker: docs/evaluation.md says
what it does not protect from.
"""
