"""Changes to what is set for an instance, and questions about it."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar, assert_never

from mailward.db.database import Database, Transaction
from mailward.errors import AlreadyExists, FailedPrecondition, MailwardError, NotFound
from mailward.eventstore import store
from mailward.eventstore.event import NewEvent
from mailward.ids import InstanceId, UserId
from mailward.settings import languages, projection, values
from mailward.settings.projection import Setting, SettingsProjection
from mailward.settings.values import DomainPolicy, Language, NotificationPolicy, SecretGenerator, Value

T = TypeVar("T")

_PROJECTIONS = (SettingsProjection(),)
_MEMORY_US = 1_000_000  #: how long a new default language, set by another process, may go unnoticed


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """Who does something, where and when."""

    instance: InstanceId
    editor: UserId
    at_us: int


def ensure_defaults(tx: Transaction, act: Act) -> None:
    """Set to its default what is not set yet: everything at the first start, what is new after an upgrade."""
    version = store.version(tx, values.AGGREGATE_TYPE, act.instance, lock=True)
    present = {setting.value.name for setting in projection.all_of(tx, act.instance)}
    missing = [values.added(value) for value in values.DEFAULTS if value.name not in present]
    _append(tx, act, version, missing)


def change(tx: Transaction, act: Act, new: Value) -> Setting:
    """Replace the value of the same name, whole. Raises FailedPrecondition when that changes nothing."""
    version = store.version(tx, values.AGGREGATE_TYPE, act.instance, lock=True)
    old = projection.find(tx, act.instance, new.name)
    event = values.added(new) if old is None else values.changed(old.value, new)
    if event is None:
        raise _unchanged(new)
    _append(tx, act, version, [event])
    setting = projection.find(tx, act.instance, new.name)
    assert setting is not None, "the projection wrote it in this transaction"
    return setting


def _unchanged(value: Value) -> FailedPrecondition:
    """Return the error for a change that changes nothing (spec 8.1, 8.6)."""
    match value:
        case Language():
            return FailedPrecondition("INST-DS3rq", "Instance not changed")
        case DomainPolicy():
            return FailedPrecondition("INSTANCE-pl9fN", "Org IAM Policy has not been changed")
        case NotificationPolicy():
            return FailedPrecondition("INSTANCE-29x02n", "Default Notification Policy not changed")
        case SecretGenerator():
            return FailedPrecondition("COMMAND-m0o3f", "No changes")
        case _:
            assert_never(value)


def _append(tx: Transaction, act: Act, version: int, new: list[NewEvent]) -> None:
    store.append(
        tx,
        values.AGGREGATE_TYPE,
        act.instance,
        version,
        new,
        editor=act.editor,
        at_us=act.at_us,
        projections=_PROJECTIONS,
    )


class InstanceSettings:
    """What is set for one instance, for all doors. One per process."""

    def __init__(self, database: Database, *, instance: InstanceId, now_us: Callable[[], int]) -> None:
        self._database = database
        self._instance = instance
        self._now_us = now_us
        self._language = languages.DEFAULT_LANGUAGE
        self._read_us = 0  #: when `_language` was read
        self._refresh: asyncio.Task[None] | None = None

    @property
    def instance(self) -> InstanceId:
        return self._instance

    async def start(self, editor: UserId) -> None:
        """Set what is not set yet. `editor`: in whose name."""
        await self._write(ensure_defaults, editor)
        await self.get(Language())

    async def stop(self) -> None:
        """Stop what runs in the background. Idempotent."""
        if self._refresh is not None:
            self._refresh.cancel()

    def language(self) -> str:
        """Return the default language as it was known at most a second ago, or at the last question.

        For errors, which cannot wait for a read: when what is known is older, it is read anew for the next one.
        """
        running = self._refresh is not None and not self._refresh.done()
        if not running and not 0 <= self._now_us() - self._read_us < _MEMORY_US:
            self._refresh = asyncio.get_running_loop().create_task(self._read_language(), name="mailward-language")
        return self._language

    async def set_language(self, tag: str, editor: UserId) -> Setting:
        """Make the language that `tag` means the default one. Raises InvalidArgument, FailedPrecondition."""
        return await self.change(Language(language=languages.supported(tag)), editor)

    async def change(self, new: Value, editor: UserId) -> Setting:
        """Replace the value of the same name, whole. Raises FailedPrecondition when that changes nothing."""
        setting = await self._write(change, editor, new)
        self._remember(setting.value)
        return setting

    async def add_notification_policy(self) -> None:
        """Refuse: it is there from the start. Raises AlreadyExists."""
        raise AlreadyExists("INSTANCE-xpo1bj", "Errors.Instance.NotificationPolicy.AlreadyExists")

    async def get(self, like: Value) -> Setting:
        """Return what is set under the name of `like`. Raises NotFound."""
        setting = await self._database.read(projection.find, self._instance, like.name)
        if setting is None:
            raise NotFound("SETTINGS-Nf4Rt", f"nothing is set as {like.name}")
        self._remember(setting.value)
        return setting

    async def generators(self) -> list[Setting]:
        """Return all secret generators, in the order of ZITADEL's types; the one without a type last."""
        found = await self._database.read(projection.all_of, self._instance)
        generators = [(s.value.generator_type or 1 << 31, s) for s in found if isinstance(s.value, SecretGenerator)]
        return [setting for _, setting in sorted(generators, key=lambda item: item[0])]

    # --- inside

    def _remember(self, value: Value) -> None:
        if isinstance(value, Language):
            self._language, self._read_us = value.language, self._now_us()

    async def _read_language(self) -> None:
        try:
            await self.get(Language())
        except MailwardError:
            return  # The store cannot be read: the next question tries again.

    async def _write(self, f: Callable[..., T], editor: UserId, *args: Value) -> T:
        act = Act(instance=self._instance, editor=editor, at_us=self._now_us())
        return await self._database.write(f, act, *args)
