"""The command line: `mailward NOUN VERB`. Each noun is a module of its own, imported when it is asked for."""

import importlib
from importlib.metadata import version

import click

#: noun → what it is for. The module of the same name defines `command`.
_NOUNS = {
    "serve": "Run the gateway.",
    "message": "Follow one message, and change its course.",
    "queue": "Look into the queue, and change its course.",
    "token": "Make, list and revoke access tokens.",
    "event": "Read who changed what, when, and from where.",
    "provider": "Look at the providers of a running gateway, and test them.",
    "key": "Make, list and revoke key files of service accounts.",
    "client": "Make client secrets of service accounts.",
    "member": "Grant and take roles.",
    "config": "Check and show the settings.",
    "db": "Migrate, inspect and rebuild the database.",
    "import": "Take providers and policies over from a ZITADEL.",
    "demo": "A local mail catcher, and a tour of the gateway.",
}
_MODULES = {"import": "importer"}  #: where the noun is no name that Python allows


class _Nouns(click.Group):
    """Imports a noun's module late: `mailward --help` takes a fraction of what importing everything would."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_NOUNS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _NOUNS:
            return None
        command: click.Command = importlib.import_module(f"mailward.cli.{_MODULES.get(cmd_name, cmd_name)}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_NOUNS.items()))


def _show_version(ctx: click.Context, _param: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        click.echo(f"mailward {version('mailward')}")
        ctx.exit()


@click.group(cls=_Nouns, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version, help="Show the version."
)
def cli() -> None:
    """Mailward: a self-hosted email gateway.

    Applications hand it mail over HTTP, gRPC or SMTP; it answers once the mail is on disk, and delivers it through the
    provider that the operator has activated.

    Exit codes: 0 ok, 1 failure, 2 usage, 3 not found, 4 denied, 5 conflict, 6 provider test failed, 7 unreachable.
    """
