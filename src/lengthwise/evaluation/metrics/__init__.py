"""Metrics: what is measured of one recipe, how sure it is, and which recipe to pick.

    reading.Reader        reads each text once and forks what it read
      quality.quality     probes, losses by position, agreement with full attention
        intervals         Wilson intervals, standard errors, the curve with its band
    expected.contains     whether an answer says what the user knows
    row.CompareRow        all of it as one row; drafting_rows.DraftingRow for drafting
    rows.CompareRows      the rows of a run, merged over questions
      choice.choose       the recipe to pick for a goal, or the trade-off
    shelf_rows.ShelfRow   one method at one share; reads.counted: what a selection reads
    divergence.top_gap    where two texts part, and how close a call it was
    origin.Origin         machine, versions, commit and command of a figure

Readings and logits flow in; numbers with their field names flow out. Nothing here prints.
"""
