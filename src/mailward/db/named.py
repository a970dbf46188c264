""" ":name" parameters in SQL text, for the engine that does not know them."""

import re
from functools import lru_cache

# Whatever may hold a colon that is no parameter comes first, so that it is skipped whole.
_TOKEN = re.compile(
    r"""'(?:[^']|'')*'              # string literal
      | "(?:[^"]|"")*"              # quoted name
      | --[^\n]*                    # comment
      | /\*.*?\*/                   # comment
      | ::                          # cast
      | :=                          # named argument
      | :(?P<name>[A-Za-z_]\w*)     # parameter
      | %                           # psycopg's placeholder sign
    """,
    re.VERBOSE | re.DOTALL,
)


@lru_cache(maxsize=1_024)
def compile_named(sql: str) -> tuple[str, tuple[str, ...]]:
    """Return `sql` with "%s" for each ":name" and "%%" for each "%", and the names in the order of the "%s"."""
    names: list[str] = []

    def replace(match: re.Match[str]) -> str:
        if name := match["name"]:
            names.append(name)
            return "%s"
        return match[0].replace("%", "%%")

    return _TOKEN.sub(replace, sql), tuple(names)
