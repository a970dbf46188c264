"""How to reach well-known providers: hosts, ports, TLS modes, logins and quirks (pure).

A preset is a start, not a promise: hosts change. docs/howto/presets.md says which were compared with what, and when.
"""

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """One provider, or one region of it."""

    id: str
    name: str
    host: str
    port: int
    tls_mode: str = "starttls"  #: as in Options
    user: str = ""  #: what stands for the user; "": the account's
    hint: str  #: a sentence: what user and password are there
    documentation: str
    auth: tuple[str, ...] = ("password",)
    token_endpoint: str = ""
    scopes: tuple[str, ...] = ()
    quirks: tuple[str, ...] = ()


_SES_REGIONS = {
    "us-east-1": "US East (N. Virginia)",
    "us-east-2": "US East (Ohio)",
    "us-west-1": "US West (N. California)",
    "us-west-2": "US West (Oregon)",
    "ca-central-1": "Canada (Central)",
    "sa-east-1": "South America (São Paulo)",
    "eu-west-1": "Europe (Ireland)",
    "eu-west-2": "Europe (London)",
    "eu-west-3": "Europe (Paris)",
    "eu-central-1": "Europe (Frankfurt)",
    "eu-north-1": "Europe (Stockholm)",
    "eu-south-1": "Europe (Milan)",
    "ap-south-1": "Asia Pacific (Mumbai)",
    "ap-northeast-1": "Asia Pacific (Tokyo)",
    "ap-northeast-2": "Asia Pacific (Seoul)",
    "ap-southeast-1": "Asia Pacific (Singapore)",
    "ap-southeast-2": "Asia Pacific (Sydney)",
}
_SES_HINT = "SMTP credentials made in the SES console of this region, not an access key."
_SES_QUIRKS = (
    "A new account is in a sandbox and sends to verified addresses only.",
    "Port 25 is throttled from EC2; 587 and 465 are not.",
)


def _ses() -> Iterator[Preset]:
    for region, where in _SES_REGIONS.items():
        yield Preset(
            id=f"ses-{region}",
            name=f"Amazon SES, {where}",
            host=f"email-smtp.{region}.amazonaws.com",
            port=587,
            hint=_SES_HINT,
            documentation="https://docs.aws.amazon.com/ses/latest/dg/smtp-connect.html",
            quirks=_SES_QUIRKS,
        )


_GOOGLE_TOKENS = "https://oauth2.googleapis.com/token"
_GOOGLE_SCOPES = ("https://mail.google.com/",)

_SPARKPOST_QUIRKS = (
    "100 messages for each connection, then a new one: the default of messages_per_connection.",
    "It wants at least 60 seconds of patience for each command.",
)

_OTHERS = (
    Preset(
        id="gmail",
        name="Gmail",
        host="smtp.gmail.com",
        port=465,
        tls_mode="implicit",
        hint="The whole address, and an app password (two-step verification has to be on), or OAuth.",
        documentation="https://support.google.com/mail/answer/7126229",
        auth=("password", "xoauth2", "oauthbearer"),
        token_endpoint=_GOOGLE_TOKENS,
        scopes=_GOOGLE_SCOPES,
        quirks=("From is rewritten to the account's address unless it is a verified alias.",),
    ),
    Preset(
        id="google-workspace-relay",
        name="Google Workspace SMTP relay",
        host="smtp-relay.gmail.com",
        port=587,
        hint="None when this machine's address is on the allow-list, otherwise as for Gmail.",
        documentation="https://support.google.com/a/answer/2956491",
        auth=("none", "password", "xoauth2"),
        token_endpoint=_GOOGLE_TOKENS,
        scopes=_GOOGLE_SCOPES,
        quirks=(
            "EHLO must carry a real name; a name such as localhost is refused.",
            "10,000 recipients a day for each user; beyond that 550 5.4.5.",
        ),
    ),
    Preset(
        id="microsoft365",
        name="Microsoft 365 (client submission)",
        host="smtp.office365.com",
        port=587,
        hint="The mailbox's address, and OAuth: login by password is switched off for most tenants.",
        documentation="https://learn.microsoft.com/exchange/client-developer/legacy-protocols/"
        "how-to-authenticate-an-imap-pop-smtp-application-by-using-oauth",
        auth=("xoauth2",),
        token_endpoint="https://login.microsoftonline.com/{tenant}/oauth2/v2.0/token",
        scopes=("https://outlook.office365.com/.default",),
        quirks=(
            "SMTP AUTH has to be enabled for the mailbox, or login is answered 535 5.7.139.",
            "30 messages a minute and 10,000 recipients a day; 3 connections, the fourth is answered 432 4.3.2.",
            "The sender must be the mailbox, or the mailbox must have the right to send as it.",
        ),
    ),
    Preset(
        id="outlook",
        name="Outlook.com",
        host="smtp-mail.outlook.com",
        port=587,
        hint="The whole address, and OAuth.",
        documentation="https://support.microsoft.com/office/d088b986-291d-42b8-9564-9c414e2aa040",
        auth=("xoauth2",),
        token_endpoint="https://login.microsoftonline.com/consumers/oauth2/v2.0/token",
        scopes=("https://outlook.office.com/SMTP.Send", "offline_access"),
    ),
    Preset(
        id="sendgrid",
        name="Twilio SendGrid",
        host="smtp.sendgrid.net",
        port=587,
        user="apikey",
        hint='The user is the word "apikey", the password an API key.',
        documentation="https://www.twilio.com/docs/sendgrid/for-developers/sending-email/integrating-with-the-smtp-api",
    ),
    Preset(
        id="mailgun-us",
        name="Mailgun, US",
        host="smtp.mailgun.org",
        port=587,
        hint="An SMTP user of the sending domain, e.g. postmaster@mg.example.com, and its password.",
        documentation="https://documentation.mailgun.com/docs/mailgun/user-manual/sending-messages/send-smtp",
    ),
    Preset(
        id="mailgun-eu",
        name="Mailgun, EU",
        host="smtp.eu.mailgun.org",
        port=587,
        hint="An SMTP user of the sending domain, e.g. postmaster@mg.example.com, and its password.",
        documentation="https://documentation.mailgun.com/docs/mailgun/user-manual/sending-messages/send-smtp",
    ),
    Preset(
        id="postmark",
        name="Postmark",
        host="smtp.postmarkapp.com",
        port=587,
        hint="The server's API token is both user and password.",
        documentation="https://postmarkapp.com/support/article/"
        "811-what-are-the-smtp-details-api-tokens-i-should-be-using",
        quirks=(
            "Broadcasts go through another host: smtp-broadcasts.postmarkapp.com.",
            "There is no port for TLS from the start.",
        ),
    ),
    Preset(
        id="brevo",
        name="Brevo",
        host="smtp-relay.brevo.com",
        port=465,
        tls_mode="implicit",
        hint="The login shown under SMTP & API, and an SMTP key (not an API key).",
        documentation="https://developers.brevo.com/docs/smtp-integration",
        quirks=("Its documentation names 465 as the port for TLS, 587 and 2525 as unencrypted.",),
    ),
    Preset(
        id="mailjet",
        name="Mailjet",
        host="in-v3.mailjet.com",
        port=587,
        hint="The API key is the user, the secret key the password.",
        documentation="https://dev.mailjet.com/smtp-relay/configuration/",
    ),
    Preset(
        id="sparkpost-us",
        name="SparkPost, US",
        host="smtp.sparkpostmail.com",
        port=587,
        user="SMTP_Injection",
        hint='The user is "SMTP_Injection", the password an API key with the right to send by SMTP.',
        documentation="https://developers.sparkpost.com/api/smtp/",
        quirks=_SPARKPOST_QUIRKS,
    ),
    Preset(
        id="sparkpost-eu",
        name="SparkPost, EU",
        host="smtp.eu.sparkpostmail.com",
        port=587,
        user="SMTP_Injection",
        hint='The user is "SMTP_Injection", the password an API key with the right to send by SMTP.',
        documentation="https://developers.sparkpost.com/api/smtp/",
        quirks=_SPARKPOST_QUIRKS,
    ),
    Preset(
        id="resend",
        name="Resend",
        host="smtp.resend.com",
        port=465,
        tls_mode="implicit",
        user="resend",
        hint='The user is the word "resend", the password an API key.',
        documentation="https://resend.com/docs/send-with-smtp",
    ),
    Preset(
        id="zoho",
        name="Zoho Mail",
        host="smtp.zoho.com",
        port=465,
        tls_mode="implicit",
        hint="The whole address, and an application-specific password; accounts of other regions have other hosts.",
        documentation="https://www.zoho.com/mail/help/zoho-smtp.html",
        quirks=("Accounts in the EU use smtp.zoho.eu, paid ones smtppro.zoho.com.",),
    ),
    Preset(
        id="zeptomail",
        name="Zoho ZeptoMail",
        host="smtp.zeptomail.com",
        port=587,
        user="emailapikey",
        hint='The user is the word "emailapikey", the password a Send Mail token.',
        documentation="https://www.zoho.com/zeptomail/help/smtp-home.html",
    ),
    Preset(
        id="fastmail",
        name="Fastmail",
        host="smtp.fastmail.com",
        port=465,
        tls_mode="implicit",
        hint="The whole address, and an app password.",
        documentation="https://www.fastmail.com/help/technical/servernamesandports.html",
    ),
    Preset(
        id="yandex",
        name="Yandex Mail",
        host="smtp.yandex.com",
        port=465,
        tls_mode="implicit",
        hint="The whole address, and an app password for mail.",
        documentation="https://yandex.com/support/mail/mail-clients/others.html",
        quirks=("The sender must be the account's address.",),
    ),
    Preset(
        id="ovh",
        name="OVHcloud",
        host="ssl0.ovh.net",
        port=465,
        tls_mode="implicit",
        hint="The whole address, and its password.",
        documentation="https://help.ovhcloud.com/csm/en-mx-plan-general-information",
    ),
    Preset(
        id="ionos",
        name="IONOS",
        host="smtp.ionos.com",
        port=465,
        tls_mode="implicit",
        hint="The whole address, and its password; national hosts exist too, e.g. smtp.ionos.de.",
        documentation="https://www.ionos.com/help/email/general-topics/settings-for-your-email-programs-imap-pop3/",
    ),
    Preset(
        id="gandi",
        name="Gandi",
        host="mail.gandi.net",
        port=587,
        hint="The whole address, and its password.",
        documentation="https://docs.gandi.net/en/gandimail/standard_email_settings/index.html",
    ),
    Preset(
        id="hostinger",
        name="Hostinger",
        host="smtp.hostinger.com",
        port=465,
        tls_mode="implicit",
        hint="The whole address, and its password.",
        documentation="https://www.hostinger.com/support/1575756-how-to-get-email-account-configuration-details",
    ),
    Preset(
        id="mailtrap",
        name="Mailtrap, sending",
        host="live.smtp.mailtrap.io",
        port=587,
        user="api",
        hint='The user is the word "api", the password an API token.',
        documentation="https://docs.mailtrap.io/email-api-smtp/setup/smtp-integration",
    ),
    Preset(
        id="mailtrap-sandbox",
        name="Mailtrap, sandbox",
        host="sandbox.smtp.mailtrap.io",
        port=2525,
        hint="User and password of the inbox. Nothing is delivered.",
        documentation="https://docs.mailtrap.io/email-sandbox/setup/sandbox-integration",
    ),
    Preset(
        id="scaleway",
        name="Scaleway Transactional Email",
        host="smtp.tem.scaleway.com",
        port=465,
        tls_mode="implicit",
        hint="The project id is the user, the secret key of an API key the password.",
        documentation="https://www.scaleway.com/en/docs/transactional-email/how-to/generate-api-keys-for-tem-with-iam/",
    ),
    Preset(
        id="elastic-email",
        name="Elastic Email",
        host="smtp.elasticemail.com",
        port=587,
        hint="An SMTP user and its password, made in the settings.",
        documentation="https://help.elasticemail.com/en/articles/4803409-smtp-settings",
    ),
    Preset(
        id="smtp2go",
        name="SMTP2GO",
        host="mail.smtp2go.com",
        port=587,
        hint="An SMTP user and its password, made in the settings.",
        documentation="https://developers.smtp2go.com/docs/smtp-relay",
        quirks=("Regions have hosts of their own: mail-us, mail-eu, mail-eu2 and mail-au.smtp2go.com.",),
    ),
    Preset(
        id="mailersend",
        name="MailerSend",
        host="smtp.mailersend.net",
        port=587,
        hint="An SMTP user of the domain and its password.",
        documentation="https://developers.mailersend.com/smtp-relay.html",
        quirks=("What it finds wrong with a message is answered 450, as if it could be taken later.",),
    ),
    Preset(
        id="icloud",
        name="iCloud Mail",
        host="smtp.mail.me.com",
        port=587,
        hint="The iCloud address, and an app-specific password.",
        documentation="https://support.apple.com/102525",
    ),
)

PRESETS: tuple[Preset, ...] = (*_ses(), *_OTHERS)
