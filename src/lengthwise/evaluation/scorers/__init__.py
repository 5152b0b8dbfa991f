"""Scorers: from a reply and its references to a number from 0 to 1.

    table.scorer     a scorer by name, with its options; table.SCORERS lists them
    replies          what of a reply is scored
    matching, chinese, numbers, choices, classes, edits, orders, rows, lengths, needles
                     rules of one kind, for several benchmarks
    exams, kick      L-Eval's closed tasks, LLM-KICK
    procedures, countdown  LongProc
    rouge, bleu      by `rouge`, rouge-score, sacrebleu and nltk
    programs         whether programs pass their checks, in the sandbox
    error_lists      what a judge that lists errors said
    preferences      length-controlled win rates
    calibration_sets which candidates a summariser is calibrated on
    aggregates       one number of many scores, where it is more than a mean

Pure functions: no model, no files; `programs` alone runs what a model wrote. Where a published
scorer has a defect, `compat=True` keeps it, so that published numbers can be repeated, and the
docstring says what differs. Spans of evidence are scored in `metrics.spans`.
"""
