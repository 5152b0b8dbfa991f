"""Compare: the runs that measure recipes side by side.

    comparison.compare    lengths x recipes x questions, `full` first
      answering.Answers   the timed answers of one recipe, from forks of one reading
      results.Comparison  the rows, with their reports
    shelf.shelf           every cache method at the same shares of the full cache
    drafting.bench        what guessing ahead gains on each kind of work
      drafting_suite      its prompts, with their tokens
      stock.stock_run     the baseline: `generate` of transformers, timed alike
      plain.without_drafters   the recipe that a drafted one is compared with

A run takes a Model and texts, and returns rows. While it runs it tells an EvaluationProgress what
it does.
"""
