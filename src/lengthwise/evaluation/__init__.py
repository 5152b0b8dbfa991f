"""Evaluation: what recipes give and cost on a text, and the reports made of it.

    sandbox/    programs that a model wrote, run under limits
    scorers/    how right a reply is, by the rules of the benchmarks
    judges/     what a judging model is asked, and how its answers are read
    tasks/      what a model is asked: probes, dialogues, questions, kinds of work
    metrics/    what is measured of a recipe, how sure it is, and which recipe to pick
    reports/    rows as a table, as a page, as charts
    compare/    the runs: `compare` for recipes, `bench` for drafting, `shelf` for equal bytes

A package imports those above it in this list, never those below:

    documents.folders.read -> Document
        compare.comparison.compare
            tasks.probes.probe_context       plants probes in the text
            metrics.quality, compare.answering   fill one metrics.row.CompareRow a recipe
        -> compare.results.Comparison
            reports.table, reports.html      show it
"""
