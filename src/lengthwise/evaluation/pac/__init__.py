"""Programs with holes, of which a share is right by guarantee (PAC prediction sets).

    program_tree  Python programs as trees, the doubt of each node, and when one completes another
    holes         which nodes a threshold keeps: the dynamic programme, nested over thresholds
    threshold     how many errors a calibration may have, and the threshold that keeps to it
    examples      the file of prompts and right programs
    predicting    what a model writes behind a prompt, as a tree with doubts
    calibration   a model's threshold: found on examples, kept in a file, used on new prompts

It stands in this room and not among the methods: it changes nothing of what a model says. It finds
on examples whose answers are known how much of what a model says is right, and says that of it.
"""
