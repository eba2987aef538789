"""Shows text of others in terminals, in Markdown and in plots, so that it forges no lines, escape sequences or markup.

Saved runs, checkpoints and corpora may come from anybody. Whatever is shown of them passes through one of these
functions where it is shown.
"""

import re
from unicodedata import category

JOINERS = "\u200c\u200d"  # invisible, but words of some languages need them
INVISIBLE = ("Cc", "Cf", "Cs", "Zl", "Zp")  # control, format (such as the direction of text), surrogates, line ends
# `_` inside a word is no markup, and `[` is none unless `](`, `][` or `]:` follows.
MARKUP = re.compile(r"[\\`*<>~&$|]|(?<![^\W_])_|_(?![^\W_])|\](?=[(\[:])")
BLOCK = re.compile(r"([#=+-]|\d+(?=[.)]))")  # starts a block at the start of a line


def show(text: str) -> str:
    r"""Return text in one line, with control characters as escapes.

    Example:
        >>> from lstmq.escaping import show
        >>> print(show("two\nlines, \x1b[31mred"))
        two\nlines, \x1b[31mred
    """
    return text if text.isprintable() else "".join(map(_show, text))


def _show(character: str) -> str:
    is_shown = category(character) not in INVISIBLE or character in JOINERS
    return character if is_shown else character.encode("unicode_escape").decode("ascii")


def escape_markdown(text: str) -> str:
    r"""Return Markdown, in one line, that shows the text as it is inside a line or a cell of a table.

    Example:
        >>> from lstmq.escaping import escape_markdown
        >>> print(escape_markdown("2.5 [1.9, 2.6] <b>*|"))
        2.5 [1.9, 2.6] \<b\>\*\|
    """
    return MARKUP.sub(r"\\\g<0>", show(text))


def escape_math(text: str) -> str:
    r"""Return text, in one line, that matplotlib draws as it is. It takes what is between dollars for a formula."""
    return show(text).replace("$", r"\$")


def markdown_item(text: str) -> str:
    r"""Return an item of a Markdown list that shows the text as it is.

    Example:
        >>> from lstmq.escaping import markdown_item
        >>> print(markdown_item("# head"), markdown_item("2. item"))
        - \# head - 2\. item
    """
    escaped = escape_markdown(text).lstrip()
    if block := BLOCK.match(escaped):
        start = block.end() if block[0][0].isdigit() else 0
        escaped = f"{escaped[:start]}\\{escaped[start:]}"
    return f"- {escaped}"
