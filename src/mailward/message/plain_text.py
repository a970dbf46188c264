"""The text of an HTML document, for those who read mail as plain text."""

from html.parser import HTMLParser

_MAX_CHARACTERS = 1_048_576  #: more HTML than this is not read; no mail client shows so much either

_SKIPPED = frozenset({"head", "script", "style", "template", "title"})
_PARAGRAPHS = frozenset(
    {
        "address", "article", "aside", "blockquote", "dl", "fieldset", "figure", "footer", "form", "h1", "h2", "h3",
        "h4", "h5", "h6", "header", "hr", "main", "nav", "ol", "p", "pre", "section", "table", "ul",
    }
)  # fmt: skip
_LINES = frozenset({"caption", "dd", "div", "dt", "figcaption", "li", "tr"})
_VOID = frozenset(
    {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}
)


def plain_text(html: str) -> str:
    """Return the readable text of `html`: paragraphs, line breaks, lists, and links with their addresses.

    Never raises: HTML that is broken gives text that is less well set. Lines end with "\\n".
    """
    reader = _Reader()
    reader.feed(html[:_MAX_CHARACTERS])
    reader.close()
    text = reader.text()
    return f"{text}[...]\n" if len(html) > _MAX_CHARACTERS else text


class _Reader(HTMLParser):
    """Collects text; `_break` is how many line ends are owed before the next word."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._out: list[str] = []
        self._break = 0
        self._space = False
        self._hidden = ""  # the tag whose content is left out
        self._hidden_depth = 0
        self._pre = 0
        self._lists: list[int] = []  # the next number of each open list, -1 for one without
        self._links: list[tuple[str, int]] = []  # address, and where its text starts in _out

    def text(self) -> str:
        lines = [line.rstrip() for line in "".join(self._out).split("\n")]
        text = "\n".join(lines).strip("\n")
        return text + "\n" if text else ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self._hidden == "head" and tag == "body":
            self._hidden = ""  # A head may be left open.
        if self._hidden:
            self._hidden_depth += tag == self._hidden
            return
        attributes = dict(attrs)
        style = (attributes.get("style") or "").replace(" ", "").lower()
        if tag not in _VOID and (tag in _SKIPPED or "hidden" in attributes or "display:none" in style):
            self._hidden, self._hidden_depth = tag, 1
            return
        self._set_apart(tag)
        match tag:
            case "br":
                self._out.append("\n")
                self._space = False
            case "hr":
                self._owe(2)
                self._word("-" * 20)
                self._owe(2)
            case "img":
                self.handle_data(attributes.get("alt") or "")
            case "a":
                self._links.append(((attributes.get("href") or "").strip(), len(self._out)))
            case "ul":
                self._lists.append(-1)
            case "ol":
                self._lists.append(1)
            case "pre":
                self._pre += 1
            case "td" | "th":
                self._space = True
            case "li":
                self._bullet()
            case _:
                pass

    def handle_endtag(self, tag: str) -> None:
        if self._hidden:
            if tag == self._hidden:
                self._hidden_depth -= 1
                if not self._hidden_depth:
                    self._hidden = ""
            return
        if tag == "a" and self._links:
            self._end_of_link(*self._links.pop())
        elif tag in {"ul", "ol"} and self._lists:
            self._lists.pop()
        elif tag == "pre" and self._pre:
            self._pre -= 1
        self._set_apart(tag)

    def handle_data(self, data: str) -> None:
        if self._hidden or not data:
            return
        if self._pre:
            self._word(data)
            return
        words = data.split()
        if not words:
            self._space = True
            return
        self._space = self._space or data[0].isspace()
        self._word(" ".join(words))
        self._space = data[-1].isspace()

    def _word(self, word: str) -> None:
        if self._break:
            if self._out:
                self._out.append("\n" * self._break)
            self._break = 0
        elif self._space and self._out and not self._out[-1].endswith("\n"):
            self._out.append(" ")
        self._space = False
        self._out.append(word)

    def _owe(self, lines: int) -> None:
        self._break = max(self._break, lines)
        self._space = False

    def _set_apart(self, tag: str) -> None:
        """Owe the line ends that separate a block `tag` from what is before or after it."""
        if tag in {"ul", "ol"} and self._lists:
            self._owe(1)  # A list in a list continues it.
        elif tag in _PARAGRAPHS:
            self._owe(2)
        elif tag in _LINES:
            self._owe(1)

    def _bullet(self) -> None:
        number = self._lists[-1] if self._lists else -1
        if number >= 0:
            self._lists[-1] += 1
        indent = "  " * max(len(self._lists) - 1, 0)
        self._word(f"{indent}- " if number < 0 else f"{indent}{number}. ")

    def _end_of_link(self, address: str, start: int) -> None:
        text = "".join(self._out[start:]).strip()
        bare = address.removeprefix("mailto:").removeprefix("https://").removeprefix("http://").rstrip("/")
        shown = text.removeprefix("https://").removeprefix("http://").rstrip("/")
        if address and not address.startswith(("#", "javascript:", "cid:")) and bare != shown:
            self._space = bool(text)
            self._word(f"({address})" if text else address)
