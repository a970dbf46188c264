""":name parameters become psycopg's, and nothing else changes."""

import pytest

from mailward.db.named import compile_named


@pytest.mark.parametrize(
    ("sql", "compiled", "names"),
    [
        ("SELECT 1", "SELECT 1", ()),
        ("a = :a AND b = :b_2", "a = %s AND b = %s", ("a", "b_2")),
        (":a, :b, :a", "%s, %s, %s", ("a", "b", "a")),
        (":a::bigint", "%s::bigint", ("a",)),
        ("x::text[]", "x::text[]", ()),
        ("':a' || 'it''s :b' || :c", "':a' || 'it''s :b' || %s", ("c",)),
        ('":a" = :a', '":a" = %s', ("a",)),
        ("a LIKE '%x' AND 5 % :n", "a LIKE '%%x' AND 5 %% %s", ("n",)),
        ("a -- :no\n, :yes", "a -- :no\n, %s", ("yes",)),
        ("a /* :no\n :no */, :yes", "a /* :no\n :no */, %s", ("yes",)),
        ("f(x := 1, y => :y)", "f(x := 1, y => %s)", ("y",)),
    ],
)
def test_only_parameters_are_replaced(sql: str, compiled: str, names: tuple[str, ...]) -> None:
    assert compile_named(sql) == (compiled, names)
