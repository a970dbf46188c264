"""`mailward member`: who is a member of the instance, in which roles."""

import click

from mailward import config
from mailward.access.commands import SYSTEM
from mailward.access.queries import MemberRow
from mailward.access.roles import MEMBER_PERMISSIONS
from mailward.cli import common
from mailward.ids import UserId
from mailward.store import open_store

_ROLES = click.Choice(list(MEMBER_PERMISSIONS))


@click.group()
def command() -> None:
    """Grant and take roles. Works at once, also for tokens that are out."""


@command.command()
@click.argument("user_id")
@click.option("--role", "roles", type=_ROLES, multiple=True, required=True, help="May be given several times.")
@common.settings_options(common.STORE)
def add(settings: config.Loaded, user_id: str, roles: tuple[str, ...]) -> None:
    """Make the user USER_ID a member. Exits 5 when it is one already, or no such user exists."""

    async def work() -> None:
        async with open_store(settings.settings) as store:
            await store.access.add_member(UserId(user_id), roles, SYSTEM)

    common.run(work())


@command.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@common.settings_options(common.STORE)
def list_(settings: config.Loaded, as_json: bool) -> None:
    """List the members, oldest first."""

    async def work() -> list[MemberRow]:
        async with open_store(settings.settings) as store:
            rows, _ = await store.access.list_members(user_id=None, order="created_at_us", asc=True, offset=0, limit=0)
            return rows

    found = common.run(work())
    if as_json:
        common.print_json([{"user_id": r.user_id, "name": r.name, "roles": r.membership.roles} for r in found])
    else:
        rows = [{"user_id": r.user_id, "name": r.name, "roles": ", ".join(r.membership.roles or ())} for r in found]
        common.print_table(rows, ("user_id", "name", "roles"))


@command.command()
@click.argument("user_id")
@common.settings_options(common.STORE)
def remove(settings: config.Loaded, user_id: str) -> None:
    """End a membership; nothing happens when there is none."""

    async def work() -> None:
        async with open_store(settings.settings) as store:
            await store.access.remove_member(UserId(user_id), SYSTEM)

    common.run(work())
