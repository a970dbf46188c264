"""Settings come from defaults, file, environment and flags, in this order, and a mistake is named."""

from pathlib import Path

import pytest

from mailward import config
from mailward.errors import InvalidArgument


def load(
    toml: str = "", environ: dict[str, str] | None = None, tmp_path: Path | None = None, **flags: object
) -> config.Loaded:
    file = None
    if tmp_path is not None:
        file = tmp_path / "mailward.toml"
        file.write_text(toml)
    return config.load(str(file) if file else None, flags, environ or {})


def test_a_flag_beats_the_environment_which_beats_the_file_which_beats_the_default(tmp_path: Path) -> None:
    toml = 'http = "127.0.0.1:1"\nsmtp = "127.0.0.1:2"\nhostname = "file.example"'
    environ = {"MAILWARD_HTTP": "127.0.0.1:3", "MAILWARD_SMTP": "127.0.0.1:4", "OTHER": "x"}

    loaded = load(toml, environ, tmp_path, http="127.0.0.1:5")

    settings = loaded.settings
    assert (settings.http, settings.smtp, settings.hostname) == ("127.0.0.1:5", "127.0.0.1:4", "file.example")
    assert settings.max_recipients == 1000
    assert [loaded.origins[n] for n in ("http", "smtp", "hostname", "max_recipients")] == [
        "flag", "environment", "file", "default",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("source", "place"),
    [({"toml": "htttp = '127.0.0.1:1'"}, "mailward.toml"), ({"environ": {"MAILWARD_HTTTP": "x"}}, "the environment")],
)
def test_an_unknown_name_is_an_error_that_names_the_nearest_known_one(
    source: dict[str, object], place: str, tmp_path: Path
) -> None:
    with pytest.raises(InvalidArgument, match=rf"unknown setting 'htttp' in .*{place}: did you mean 'http'\?"):
        load(tmp_path=tmp_path, **source)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("http", "127.0.0.1"), ("http", "h:99999"), ("max_recipients", "many"), ("max_recipients", 0),
        ("log_level", "loud"), ("smtp_open_from", "10.0.0.0/99"), ("trusted_proxies", "proxy"),
        ("auth_unlimited_from", "x"), ("trusted_proxy_header", "via"), ("retry_schedule_s", ""), ("database", "mysql://x"),
        ("allow_cleartext_auth", "perhaps"),
    ],
)  # fmt: skip
def test_a_bad_value_is_an_error_that_names_the_setting(name: str, value: object) -> None:
    with pytest.raises(InvalidArgument, match=name):
        load(**{name: value})  # type: ignore[arg-type]


def test_lists_and_numbers_and_truths_are_read_from_text() -> None:
    environ = {
        "MAILWARD_SMTP_OPEN_FROM": "10.0.0.0/8, 192.168.0.0/16",
        "MAILWARD_RETRY_SCHEDULE_S": "1,2,3",
        "MAILWARD_ALLOW_CLEARTEXT_AUTH": "true",
        "MAILWARD_FINAL_REPLY_S": "2.5",
    }

    settings = load(environ=environ).settings

    assert settings.smtp_open_from == ("10.0.0.0/8", "192.168.0.0/16")
    assert settings.retry_schedule_s == (1, 2, 3)
    assert settings.allow_cleartext_auth is True
    assert settings.final_reply_s == 2.5


@pytest.mark.parametrize("given", ["toml", "environ", "flag"])
def test_a_secret_may_be_given_as_a_file_in_every_source(given: str, tmp_path: Path) -> None:
    secret = tmp_path / "key"
    secret.write_text("s3cret\n")

    loaded = {
        "toml": lambda: load(f'master_key_file = "{secret}"', tmp_path=tmp_path),
        "environ": lambda: load(environ={"MAILWARD_MASTER_KEY_FILE": str(secret)}),
        "flag": lambda: load(master_key_file=str(secret)),
    }[given]()

    assert loaded.settings.master_key == "s3cret"


def test_secrets_are_not_shown() -> None:
    settings = load(master_key="s3cret", database="postgresql://u:s3cret@db/x").settings

    assert "s3cret" not in str(config.shown(settings))


def test_certificate_and_key_go_together() -> None:
    with pytest.raises(InvalidArgument, match="tls_cert and tls_key go together"):
        load(tls_cert="cert.pem")


def test_a_file_that_is_no_toml_or_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match=r"mailward\.toml is not TOML"):
        load("http = ", tmp_path=tmp_path)
    with pytest.raises(InvalidArgument, match=r"cannot read .*missing\.toml"):
        config.load(str(tmp_path / "missing.toml"), {}, {})


def test_every_setting_is_described() -> None:
    assert all(config.description(name) for name in config.names())
