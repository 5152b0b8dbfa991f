"""Reports: rows as people read them, in a terminal, in a notebook and on a page.

    columns               each column once: its field, unit, title and better direction
    table.report          the terminal; answers shows texts side by side
    drafting_table.report the terminal, for the drafting suite
    shelf_table.report, shelf_picture.draw   the shelf
    html.page             one page that loads nothing; templates/ has its HTML and CSS
      html_answers        what was answered, question by question
      charts.trade_off, charts.losses   which charts the page has
        svg_points, svg_lines   one kind of chart each, on the frame of svg
          labels          where the labels of a chart go
    notebook              what an interpreter prints and a notebook shows

A report gets a `CompareRows` and returns text, markup or something rich can print. It measures
nothing, and changes no row.
"""
