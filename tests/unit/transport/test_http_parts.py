"""The parts of the HTTP way out that need no socket."""

import json
from email.message import EmailMessage

import pytest

from mailward.message.extract import extract
from mailward.transport.endpoint import parse_endpoint
from mailward.transport.http_body import Letter, signature
from mailward.transport.http_judge import retry_after_s


def test_an_endpoint_is_taken_apart() -> None:
    plain = parse_endpoint("https://hook.example.com")
    full = parse_endpoint("http://us%40er:p%3Aw@[::1]:8080/a b?c=ü#frag")

    assert (plain.host, plain.port, plain.is_https, plain.target) == ("hook.example.com", 443, True, "/")
    assert plain.authority == "hook.example.com"
    assert (full.host, full.port, full.is_https, full.target) == ("::1", 8080, False, "/a%20b?c=%C3%BC")
    assert (full.authority, full.authorization) == ("[::1]:8080", "Basic dXNAZXI6cDp3")
    assert parse_endpoint("https://bücher.example/x").host == "xn--bcher-kva.example"


@pytest.mark.parametrize("url", ["", "hook.example.com", "ftp://example.com/", "https://", "https://h:99999/", "/mail"])
def test_what_is_no_endpoint_is_refused_with_a_sentence(url: str) -> None:
    with pytest.raises(ValueError, match="endpoint"):
        parse_endpoint(url)


def mail() -> bytes:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "Büro <a@example.com>", "b@example.net", "Grüße & <mehr>"
    message.set_content("Hallo ü\n")
    message.add_alternative("<p>Hallo &amp; ü</p>\n", subtype="html")
    message.add_attachment(b"\0\1", maintype="application", subtype="octet-stream", filename="x.bin")
    return message.as_bytes().replace(b"\n", b"\r\n")


def test_a_message_is_told_by_its_subject_and_texts() -> None:
    found = extract(mail())

    assert (found.subject, found.sender, found.text) == ("Grüße & <mehr>", "Büro <a@example.com>", "Hallo ü\n")
    assert found.html == "<p>Hallo &amp; ü</p>\n"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\r\n\xff\xfe",
        b"Content-Type: text/plain; charset=nonsense\r\n\r\nx",
        b"From: <<<>\r\nSubject: =?x?y?\r\n\r\n",
    ],
)
def test_a_broken_message_is_told_by_what_can_be_read(content: bytes) -> None:
    assert isinstance(extract(content).text, str)


def test_the_body_differs_by_the_recipient_alone_and_is_sorted_json() -> None:
    letter = Letter(mail(), reverse_path="a@example.com", provider_id="7", description="")

    one, two = letter.body('q"@example.net'), letter.body("two@example.net")

    assert json.loads(one)["contextInfo"]["recipientEmailAddress"] == 'q"@example.net'
    assert json.loads(two)["contextInfo"]["provider"] == {"id": "7"}
    assert list(json.loads(one)) == ["args", "contextInfo", "templateData"]
    assert json.loads(one)["templateData"] == {
        "html": "<p>Hallo &amp; ü</p>\n", "subject": "Grüße & <mehr>", "text": "Hallo ü\n",
    }  # fmt: skip
    assert not {b"<", b">", b"&"} & {bytes([byte]) for byte in one}
    assert one.replace(rb"q\"", b"two") == two


def test_the_signature_is_over_time_and_body_with_the_text_of_the_key() -> None:
    """By a vector made with openssl dgst -sha256 -hmac."""
    expected = "t=1700000000,v1=9d713ed406bb7076d4123f0dc2c39d2df5c654ed4b0cd56b52c8b4c940bd63ae"

    assert signature(["key"], b"{}", 1_700_000_000) == expected


def test_while_a_key_is_changed_over_the_signature_holds_by_either() -> None:
    new, old = (signature([key], b"{}", 1_700_000_000).partition(",")[2] for key in ("new", "old"))

    assert signature(["new", "old"], b"{}", 1_700_000_000) == f"t=1700000000,{new},{old}"


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("30", 30.0), (" 5 ", 5.0), ("", 0.0), ("soon", 0.0), ("-3", 0.0), ("99999999", 86_400.0),
     ("Thu, 01 Jan 1970 00:16:50 GMT", 10.0), ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0)],
)  # fmt: skip
def test_retry_after_is_seconds_or_a_date_and_never_more_than_a_day(value: str, seconds: float) -> None:
    assert retry_after_s(value, 1_000.0) == seconds
