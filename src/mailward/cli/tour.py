"""The tour of `mailward serve --demo`: a catcher as provider, a mail by HTTP, a mail by SMTP, their timelines."""

import asyncio
import http.client
import json
import smtplib
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email import policy
from email.message import EmailMessage
from typing import Any

import click

from mailward.access.roles import TokenRole
from mailward.bootstrap.gateway import Gateway

_ARRIVAL_S = 30.0


async def tour(gateway: Gateway) -> None:
    """Show the way of two mails, then wait to be cancelled; the catcher stays as long. Returns only when it failed."""
    try:
        await _show(gateway)
    except (click.ClickException, TimeoutError, OSError) as error:
        click.echo(f"mailward: the tour ended early: {error or 'something took too long'}", err=True)


async def _show(gateway: Gateway) -> None:
    async with _catcher() as (address, mails):
        _say(f"1. A mail catcher, a process of its own, listens on {address}. Add it as a provider and activate it:")
        config = {
            "senderAddress": "noreply@example.com",
            "senderName": "Example",
            "host": address,
            "description": "the demo's catcher",
        }
        added = await _call(gateway, "POST", "/admin/v1/smtp", config)
        await _call(gateway, "POST", f"/admin/v1/smtp/{added['id']}/_activate", {})

        _say("2. Send a mail over HTTP:")
        mail = {"from": "Example <noreply@example.com>", "to": ["ada@example.org"], "subject": "Hello over HTTP"}
        sent = [(await _call(gateway, "POST", "/v1/messages", {**mail, "text": "It works.\n"}))["id"]]

        if gateway.smtp_address:
            _say("3. Send a mail over SMTP, with a sender token as the password:")
            token = await gateway.access.create_token(TokenRole.SENDER, "demo")
            reply = await asyncio.to_thread(_send_by_smtp, gateway.smtp_address, token.text)
            _say(f"   {reply}")
            sent.append(reply.rsplit(" ", 1)[-1])

        _say("4. Both arrive:")
        async with asyncio.timeout(_ARRIVAL_S):
            for _ in sent:
                _show_mail(await mails.get())
        for id in sent:
            await _show_timeline(gateway, id)
        _say("The gateway and the catcher keep running; end them with Ctrl-C.")
        await asyncio.Event().wait()


@asynccontextmanager
async def _catcher() -> AsyncIterator[tuple[str, "asyncio.Queue[dict[str, Any]]"]]:
    """Run `mailward demo catcher`; yield its address and the mails it reports."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "mailward", "demo", "catcher", "--json", stdout=asyncio.subprocess.PIPE, limit=64 << 20
    )
    assert process.stdout is not None
    try:
        first = json.loads(await process.stdout.readline())
        mails: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        async with asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(_read(process.stdout, mails))
            try:
                yield first["listening"], mails
            finally:
                reading.cancel()
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _read(lines: asyncio.StreamReader, mails: "asyncio.Queue[dict[str, Any]]") -> None:
    while line := await lines.readline():
        mails.put_nowait(json.loads(line))


async def _call(gateway: Gateway, method: str, path: str, body: Any = None) -> Any:
    _say(f"   {method} {path}" + (f" {json.dumps(body)}" if body else ""))
    return await asyncio.to_thread(_request, gateway, method, path, body)


def _request(gateway: Gateway, method: str, path: str, body: Any) -> Any:
    """Call the API as any client would, over the port."""
    connection: http.client.HTTPConnection
    if gateway.scheme == "https":
        # The certificate is the operator's own, and we talk to ourselves.
        context = ssl._create_unverified_context()
        connection = http.client.HTTPSConnection(gateway.http_address, timeout=30, context=context)
    else:
        connection = http.client.HTTPConnection(gateway.http_address, timeout=30)
    headers = {"Authorization": f"Bearer {gateway.owner_token_file.read_text().strip()}"}
    try:
        connection.request(method, path, json.dumps(body) if body is not None else None, headers)
        answer = connection.getresponse()
        text = answer.read()
        if answer.status >= 300:
            raise click.ClickException(f"{method} {path} answered {answer.status}: {text.decode()}")
        return json.loads(text)
    finally:
        connection.close()


def _send_by_smtp(address: str, token: str) -> str:
    host, _, port = address.rpartition(":")
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = "Example <noreply@example.com>", "bob@example.org", "Hello over SMTP"
    mail.set_content("It works here too.\n")
    with smtplib.SMTP(host.strip("[]"), int(port), timeout=30) as smtp:
        smtp.ehlo()
        smtp.login("demo", token)
        smtp.mail("noreply@example.com")
        smtp.rcpt("bob@example.org")
        code, text = smtp.data(mail.as_bytes(policy=policy.SMTP))
    return f"{code} {text.decode()}"


def _show_mail(mail: dict[str, Any]) -> None:
    _say(f"\n   --- received from <{mail['from']}> for <{'>, <'.join(mail['to'])}>")
    for line in mail["content"].rstrip().splitlines():
        _say(f"   | {line}")


async def _show_timeline(gateway: Gateway, id: str) -> None:
    """Print the timeline of a message once its outcome is recorded: the catcher has the mail a moment earlier."""
    message = await _settled(gateway, id)
    _say(f"\n   timeline of {id}: {message['subject']}")
    _say(f"   {message['created_at']}  stored, {message['size_bytes']} bytes")
    for attempt in message.get("attempts", []):
        _say(f"   {attempt['started_at']}  offered to provider {attempt['provider_id']}")
        for one in attempt["recipients"]:
            reply = one["reply"]
            said = f"{reply['code']} {reply.get('enhanced', '')} {reply['text']}"
            _say(f"   {attempt['ended_at']}  {one['outcome']} for {one['address']}: {said}")
    _say("")


async def _settled(gateway: Gateway, id: str) -> Any:
    async with asyncio.timeout(_ARRIVAL_S):
        while True:
            message = await asyncio.to_thread(_request, gateway, "GET", f"/v1/messages/{id}", None)
            if message["state"] not in ("queued", "sending"):
                return message
            await asyncio.sleep(0.05)


def _say(text: str) -> None:
    click.echo(text)
