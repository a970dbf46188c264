"""`mailward client`: secrets with which service accounts sign in by client credentials."""

import click

from mailward import config, store
from mailward.access.roles import TokenRole
from mailward.cli import common


@click.group()
def command() -> None:
    """Make client secrets of service accounts."""


@command.command()
@click.option("--role", type=click.Choice([role.value for role in TokenRole]), required=True, help="What it may do.")
@click.option("--name", required=True, help="The service account, and the client id; made if there is none.")
@common.settings_options(common.STORE)
def create(settings: config.Loaded, role: str, name: str) -> None:
    """Print `id:secret` on stdout. The secret is shown this once, and replaces an earlier one."""

    async def work() -> str:
        async with store.open_accounts(settings.settings) as accounts:
            return await accounts.create_client(TokenRole(role), name)

    click.echo(f"{name}:{common.run(work())}")
