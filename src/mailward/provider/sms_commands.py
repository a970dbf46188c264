"""Changes to SMS providers and questions about them; sending SMS is somebody else's."""

from collections.abc import Callable

from mailward.db.database import Database, Transaction
from mailward.eventstore import store
from mailward.eventstore.event import NewEvent
from mailward.ids import InstanceId, ProviderId, UserId
from mailward.provider import events, sms, sms_events, sms_projection, sms_queries
from mailward.provider.commands import SIGNING_KEY, Act, Added, ChangedHTTP, Details
from mailward.provider.payloads import Sealed
from mailward.provider.queries import HTTPSettings
from mailward.provider.signing import fresh_signing_key
from mailward.provider.sms import (
    ActivateSMS,
    AddSMSHTTP,
    AddTwilio,
    ChangeSMSHTTP,
    ChangeTwilio,
    ChangeTwilioToken,
    Command,
    DeactivateSMS,
    RemoveSMS,
    TwilioConfig,
)
from mailward.provider.sms_projection import SMSProvidersProjection
from mailward.provider.sms_queries import SMSPage, SMSView
from mailward.provider.state import HTTPConfig
from mailward.secretbox import SecretBox, SecretError, SecretText

_PROJECTIONS = (SMSProvidersProjection(),)
#: Part of the place to which a secret is bound, beside the id: no email provider's secret opens as one of these.
_SMS = "sms"
_TOKEN = "token"


def execute(tx: Transaction, act: Act, command: Command) -> Details:
    """Do `command`; return the details of its last event, or, when nothing changed, of the provider's last one.

    For `Database.write`. Raises what `sms.decide` raises.
    """
    version = store.version(tx, events.AGGREGATE_TYPE, act.instance, lock=True)
    decided = sms.decide(sms_projection.load(tx, act.instance, command.id), command)
    if not decided:
        return Details(*sms_projection.last_change(tx, act.instance, command.id), act.instance)
    recorded = store.append(
        tx,
        events.AGGREGATE_TYPE,
        act.instance,
        version,
        [NewEvent(sms_events.type_of(event), sms_events.to_payload(event)) for event in decided],
        editor=act.editor,
        at_us=act.at_us,
        projections=act.projections,
    )
    return Details(recorded[-1].version, recorded[-1].at_us, act.instance)


class SMSProviders:
    """The SMS providers of one instance."""

    def __init__(
        self,
        database: Database,
        secrets: SecretBox,
        *,
        instance: InstanceId,
        new_id: Callable[[], int],
        now_us: Callable[[], int],
    ) -> None:
        self._database = database
        self._secrets = secrets
        self._instance = instance
        self._new_id = new_id
        self._now_us = now_us

    # --- changes

    async def add_twilio(self, config: TwilioConfig, token: SecretText, editor: UserId) -> Added:
        """Add an inactive Twilio account."""
        id = ProviderId(str(self._new_id()))
        return Added(id, await self._do(AddTwilio(id, config, self._seal(token, id, _TOKEN)), editor))

    async def change_twilio(self, id: ProviderId, config: TwilioConfig, editor: UserId) -> Details:
        """Replace all but the token. Raises InvalidArgument, NotFound."""
        return await self._do(ChangeTwilio(id, config), editor)

    async def change_twilio_token(self, id: ProviderId, token: SecretText, editor: UserId) -> Details:
        """Replace the token. Raises InvalidArgument, NotFound."""
        return await self._do(ChangeTwilioToken(id, self._seal(token, id, _TOKEN)), editor)

    async def add_http(self, config: HTTPConfig, editor: UserId) -> Added:
        """Add an inactive HTTP endpoint with a signing key of its own."""
        id, key = ProviderId(str(self._new_id())), fresh_signing_key()
        details = await self._do(AddSMSHTTP(id, config, self._seal(key, id, SIGNING_KEY)), editor)
        return Added(id, details, key)

    async def change_http(
        self, id: ProviderId, config: HTTPConfig, editor: UserId, *, new_key: bool = False
    ) -> ChangedHTTP:
        """Replace endpoint and description, and the signing key when asked to. Raises InvalidArgument, NotFound."""
        key = fresh_signing_key() if new_key else None
        sealed = None if key is None else self._seal(key, id, SIGNING_KEY)
        return ChangedHTTP(await self._do(ChangeSMSHTTP(id, config, sealed), editor), key)

    async def activate(self, id: ProviderId, editor: UserId) -> Details:
        """Make `id` the active SMS provider. Raises InvalidArgument, NotFound, FailedPrecondition."""
        return await self._do(ActivateSMS(id), editor)

    async def deactivate(self, id: ProviderId, editor: UserId) -> Details:
        """Leave no SMS provider active. Raises InvalidArgument, NotFound, FailedPrecondition."""
        return await self._do(DeactivateSMS(id), editor)

    async def remove(self, id: ProviderId, editor: UserId) -> Details:
        """Remove an SMS provider, active or not. Raises InvalidArgument, NotFound."""
        return await self._do(RemoveSMS(id), editor)

    # --- questions

    async def get(self, id: ProviderId) -> SMSView:
        """Return the SMS provider `id`. Raises NotFound."""
        return await self._database.read(sms_queries.by_id, self._instance, id)

    async def list(self, offset: int = 0, limit: int = 0) -> SMSPage:
        """Return up to `limit` (0: all) SMS providers after the first `offset`, in the order of creation."""
        return await self._database.read(sms_queries.page, self._instance, offset, limit)

    def signing_key(self, view: SMSView) -> SecretText | None:
        """Return the signing key of an HTTP endpoint, which reads show; None for Twilio, and when it cannot be opened.

        So a list never fails for one of its items, as the original's does after a rotation (departure 15).
        """
        if not isinstance(view.config, HTTPSettings):
            return None
        try:
            return self._secrets.open(view.config.signing_key, self._instance, _SMS, view.id, SIGNING_KEY)
        except SecretError:
            return None

    # --- inside

    async def _do(self, command: Command, editor: UserId) -> Details:
        act = Act(instance=self._instance, editor=editor, at_us=self._now_us(), projections=_PROJECTIONS)
        return await self._database.write(execute, act, command)

    def _seal(self, secret: SecretText, id: ProviderId, field: str) -> Sealed:
        return Sealed(self._secrets.seal(secret, self._instance, _SMS, id, field))
