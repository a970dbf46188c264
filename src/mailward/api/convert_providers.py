"""Between protobuf messages of the ProviderService and the provider room's types, both ways."""

from typing import Any

from mailward.api.convert import timestamp
from mailward.errors import InvalidArgument
from mailward.proto.mailward.v1 import providers_pb2 as proto
from mailward.provider import options as opt
from mailward.provider.extension import TokenSecret
from mailward.provider.options import OAuthOptions, Options, tls_of
from mailward.provider.presets import Preset
from mailward.provider.queries import HTTPSettings, ProviderView
from mailward.secretbox import SecretText
from mailward.transport.report import Report

_SIMPLE = (
    "tls_mode",
    "ehlo_name",
    "ca_bundle",
    "client_certificate",
    "allow_cleartext_auth",
    "max_connections",
    "messages_per_connection",
    "notes",
)
_DEADLINES = ("connect_s", "command_s", "data_s", "final_s")
_OAUTH = ("grant", "token_endpoint", "client_id", "key_id", "certificate_thumbprint", "subject", "client_auth_method")
_KEY_NAMES = ("key_id", "certificate_thumbprint")
_SECRETS = (opt.CLIENT_KEY, *opt.OAUTH_SECRETS)


def changes(request: proto.UpdateProviderRequest) -> tuple[dict[str, Any], dict[str, SecretText | None]]:
    """Return the options that `request` sets, by field, and the secrets, None for those to forget."""
    settings = {field.name: value for field, value in request.settings.ListFields()}
    options: dict[str, Any] = {name: settings[name] for name in _SIMPLE if name in settings}
    if "certificate_pins" in settings:
        options["certificate_pins"] = list(request.settings.certificate_pins.sha256)
    if "deadlines" in settings:
        options |= {name: getattr(request.settings.deadlines, name) for name in _DEADLINES}
    if "oauth" in settings:
        options["oauth"] = _oauth(request.settings.oauth)
    given = {field.name: value for field, value in request.ListFields() if field.name in _SECRETS}
    return options, {name: SecretText(text) if text else None for name, text in given.items()}


def new_secret(request: proto.RotateProviderSecretRequest) -> SecretText | TokenSecret:
    """Return the password or the secret of a login by token that `request` gives. Raises InvalidArgument."""
    given = {name: text for name in ("password", *opt.OAUTH_SECRETS) if (text := getattr(request, name))}
    if len(given) != 1:
        words = f"give one new secret: password, {', '.join(opt.OAUTH_SECRETS)}"
        raise InvalidArgument("PROVIDER-onesecret", words, pointer="/password")
    [(name, text)] = given.items()
    names = {field.name: value for field, value in request.ListFields() if field.name in _KEY_NAMES}
    if names and name != opt.PRIVATE_KEY:
        words = "key id and certificate thumbprint are those of a private key"
        raise InvalidArgument("PROVIDER-nokey", words, pointer=f"/{next(iter(names))}")
    if "certificate_thumbprint" in names:
        names["certificate_thumbprint"] = _hex(names["certificate_thumbprint"])
    return SecretText(text) if name == "password" else TokenSecret(name=name, secret=SecretText(text), names=names)


def _hex(thumbprint: str) -> str:
    return thumbprint.replace(":", "")


def _oauth(given: proto.OAuth) -> OAuthOptions | None:
    if not given.grant:
        return None
    values = {name: getattr(given, name) for name in _OAUTH}
    values["certificate_thumbprint"] = _hex(values["certificate_thumbprint"])
    return OAuthOptions(**values, scopes=tuple(given.scopes))


def provider(view: ProviderView) -> proto.Provider:
    """Return a provider as the API shows it: everything but secrets."""
    shown = proto.Provider(
        id=view.id,
        kind="http" if isinstance(view.config, HTTPSettings) else "smtp",
        state=view.state,
        description=view.description,
        created_at=timestamp(view.creation_us),
        changed_at=timestamp(view.change_us),
    )
    config = view.config
    if isinstance(config, HTTPSettings):
        shown.endpoint = config.endpoint
        return shown
    shown.host, shown.user = config.host, config.user
    shown.sender_address, shown.sender_name = config.sender_address, config.sender_name
    shown.tls_mode = tls_of(config.tls, config.options.tls_mode)
    shown.auth = _auth(config.options, config.user, has_password="password" in config.secrets)
    shown.has_client_key = opt.CLIENT_KEY in config.secrets
    shown.settings.CopyFrom(_settings(config.options, config.secrets))
    if config.old_until_us is not None:
        shown.old_password_until.CopyFrom(timestamp(config.old_until_us))
    return shown


def _auth(options: Options, user: str, *, has_password: bool) -> str:
    if options.oauth is not None:
        return "oauth"
    return "password" if user and has_password else "none"


def _settings(options: Options, secrets: frozenset[str]) -> proto.ProviderSettings:
    plain = opt.to_plain(options)
    shown = proto.ProviderSettings(**{name: plain[name] for name in _SIMPLE if name in plain})
    if options.certificate_pins:
        shown.certificate_pins.sha256.extend(options.certificate_pins)
    if any(name in plain for name in _DEADLINES):
        shown.deadlines.CopyFrom(proto.Deadlines(**{name: plain[name] for name in _DEADLINES if name in plain}))
    if options.oauth is not None:
        oauth = proto.OAuth(
            scopes=options.oauth.scopes,
            has_client_secret=opt.CLIENT_SECRET in secrets,
            has_refresh_token=opt.REFRESH_TOKEN in secrets,
            has_private_key=opt.PRIVATE_KEY in secrets,
            **{name: getattr(options.oauth, name) for name in _OAUTH},
        )
        shown.oauth.CopyFrom(oauth)
    return shown


def report(found: Report) -> proto.TestReport:
    """Return the report of a test or a login."""
    shown = proto.TestReport(
        ok=found.ok,
        tls=found.tls.value,
        steps=[
            proto.TestStep(stage=step.stage.value, elapsed_ms=step.elapsed_ms, words=step.words, ok=step.ok)
            for step in found.steps
        ],
        elapsed_ms=round(sum(step.elapsed_ms for step in found.steps), 3),
    )
    failure = found.failure
    if failure is not None:
        shown.failure.CopyFrom(
            proto.TestFailure(
                stage=failure.stage.value,
                code=failure.code,
                words=failure.words,
                reply_code=failure.reply.code if failure.reply is not None else 0,
                cause=failure.cause,
                fix=failure.fix,
            )
        )
    return shown


def preset(one: Preset) -> proto.ProviderPreset:
    """Return a preset as the API shows it."""
    return proto.ProviderPreset(
        id=one.id,
        name=one.name,
        host=f"{one.host}:{one.port}",
        tls=one.tls_mode != "none",
        tls_mode=one.tls_mode,
        user=one.user,
        hint=one.hint,
        documentation=one.documentation,
        auth=one.auth,
        token_endpoint=one.token_endpoint,
        scopes=one.scopes,
        quirks=one.quirks,
    )
