"""Laws of escaping: what is shown is one line of visible characters, and a renderer shows the text as it is."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt  # rich needs it

from lstmq.escaping import escape_markdown, escape_math, markdown_item, show

FORGERIES = [
    "x<br>\ny",
    "# head",
    "two\nlines",
    "\r\x1b[2K\x1b[31mPASS\x1b[0m",
    "[bold]x[/bold]",
    "a|b\\|c",
    "**bold** _emphasis_ ~~gone~~ `code`",
    "[link](http://example.org) ![image](x.png) [x]: y",
    "<script>alert(1)</script> &lt; <!-- comment -->",
    "- item",
    "1. item",
    "> quote",
    "    code",
    "---",
    "$x$ \\",
    "\u202eright to left",
    "a\u2028b\x85c",
    "snake_case_name [1.0, 2.0]",
]
texts = st.text(max_size=30) | st.sampled_from(FORGERIES) | st.text("\\`*_[](){}<>#+-.!|~&$: 1a\n\t", max_size=12)


PARSER = MarkdownIt("commonmark").enable(["table", "strikethrough"])


@given(texts)
def test_show_returns_one_line_without_control_characters_and_keeps_other_text(text):
    shown = show(text)
    assert len(shown.splitlines()) <= 1
    assert not any(ord(character) < 32 or 127 <= ord(character) < 160 for character in shown)
    assert not any("\u202a" <= character <= "\u202e" for character in shown)
    assert show(shown) == shown
    if text.isprintable():
        assert shown == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("naïve 語 \U0001f600", "naïve 語 \U0001f600"),
        ("\u0643\u200c\u0643", "\u0643\u200c\u0643"),  # two letters and a joiner
        ("a\u00a0b\u3000c", "a\u00a0b\u3000c"),
        ("\x1b[31m", r"\x1b[31m"),
        ("x\u202ey\ud800", r"x\u202ey\ud800"),
    ],
)
def test_show_escapes_what_is_invisible(text, shown):
    assert show(text) == shown


@settings(max_examples=500)
@given(texts)
def test_escape_markdown_shows_text_as_it_is_inside_a_line(text):
    _, inline, _ = PARSER.parse(f"x {escape_markdown(text)} x")  # between the start and the end of a paragraph
    assert {child.type for child in inline.children} == {"text"}
    assert "".join(child.content for child in inline.children) == f"x {show(text)} x"


@settings(max_examples=500)
@given(texts)
def test_escape_markdown_shows_text_as_it_is_in_a_cell(text):
    table = f"| a | b |\n|---|---|\n| {escape_markdown(text)} | end |\n"
    cells = [token for token in PARSER.parse(table) if token.type == "inline"][2:]
    assert len(cells) == 2
    assert "".join(child.content for child in cells[0].children) == show(text).strip()
    assert {child.type for child in cells[0].children} <= {"text"}


@settings(max_examples=500)
@given(texts)
def test_markdown_item_is_one_item_of_a_list_that_shows_the_text(text):
    tokens = PARSER.parse(markdown_item(text))
    blocks = [token.type for token in tokens if token.type != "inline"]
    assert blocks[:2] == ["bullet_list_open", "list_item_open"]
    assert set(blocks[2:-2]) <= {"paragraph_open", "paragraph_close"}
    shown = [child for token in tokens if token.children for child in token.children]
    assert {child.type for child in shown} <= {"text"}
    assert "".join(child.content for child in shown) == show(text).strip()


def test_escape_math_leaves_matplotlib_no_formula():
    assert escape_math("$x$\n") == r"\$x\$\n"
