"""Which URL names which database."""

from pathlib import Path

import pytest

from mailward.db.connect import connector
from mailward.errors import InvalidArgument


@pytest.mark.parametrize("form", ["{}", "sqlite:///{}"])
def test_a_path_and_a_sqlite_url_name_the_same_file(form: str, tmp_path: Path) -> None:
    file = tmp_path / "mail & ward#1.db"

    connector(form.format(str(file).replace("#", "%23") if "sqlite" in form else file))(read_only=False).close()

    assert file.exists()


@pytest.mark.parametrize("url", ["", "sqlite://", "sqlite:///", "sqlite:///:memory:", ":memory:", "mysql://host/db"])
def test_what_is_no_file_and_no_server_is_refused(url: str) -> None:
    with pytest.raises(InvalidArgument):
        connector(url)


def test_the_file_is_for_its_owner_only(tmp_path: Path) -> None:
    """It holds mail and sealed secrets."""
    connector(tmp_path / "x.db")(read_only=False).close()

    assert (tmp_path / "x.db").stat().st_mode & 0o077 == 0
