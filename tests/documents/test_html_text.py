"""What is read of a page: `pre` as written, and a body behind a head that was not closed."""

from __future__ import annotations

import pytest

from lengthwise.documents.html_text import text_of_html


@pytest.mark.parametrize(
    ("inside", "text"),
    [
        ("if x:\n\treturn 1", "if x:\n\treturn 1"),
        (" one blank\n  two", " one blank\n  two"),
        ("a\n\n\n\nb  \nc", "a\n\n\n\nb  \nc"),
        ("\nbetween its tags\n", "between its tags"),
        ("\n\n  far\n\n", "\n  far\n"),
        ("<code>if <b>x</b>:\n\treturn</code>", "if x:\n\treturn"),
        ("a<br>\tb", "a\n\tb"),
        ("a\n<pre>\tb</pre>", "a\n\n\tb"),
        ("&lt;a&gt;", "<a>"),
    ],
)
def test_pre_is_kept_as_written(inside: str, text: str) -> None:
    page = f"<p>Before.</p><pre>{inside}</pre><p>Behind.</p>"
    assert text_of_html(page) == f"Before.\n\n{text}\n\nBehind.\n"
    assert text_of_html(f"<pre>{inside}</pre>") == f"{text}\n"


def test_blanks_outside_of_pre_are_one() -> None:
    page = "<div> <span>  a</span> <b> \t b</b>\n\n\n c</div><pre> \n </pre><p>d</p><pre> e</pre>"
    assert text_of_html(page) == "a  b c\n\nd\n\n e\n"


@pytest.mark.parametrize("end", ["", "</head>"])
@pytest.mark.parametrize("body", ["<body>", ""])
def test_a_head_that_is_not_closed_does_not_swallow_the_page(end: str, body: str) -> None:
    head = "<html><head><meta charset=utf-8><title>T</title><style>p {}</style><script>x</script>"
    assert text_of_html(f"{head}{end}{body}<p>text</p> and more") == "text\nand more\n"
