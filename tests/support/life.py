"""The life of a provider as every client is to see it, in the calls of both families; node/life.mjs is its twin."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

SERVICE = "zitadel.admin.v1.AdminService"
USER, PASSWORD = "relay", "correct horse"  #: what the relay takes; a life begins with another password


@dataclass(eq=False)
class Failure(Exception):
    """How a call failed: the code of gRPC, and the id of the ErrorDetail ("" without one)."""

    code: int
    id: str


#: Calls a method of the AdminService with a request in JSON; returns the answer in JSON. Raises Failure.
Call = Callable[[str, dict[str, Any]], dict[str, Any]]

#: Family → what its calls do, by name.
FAMILIES = {
    "smtp": {
        "add": "AddSMTPConfig", "active": "GetSMTPConfig", "get": "GetSMTPConfigById", "list": "ListSMTPConfigs",
        "activate": "ActivateSMTPConfig", "update": "UpdateSMTPConfig", "rotate": "UpdateSMTPConfigPassword",
        "test": "TestSMTPConfigById", "deactivate": "DeactivateSMTPConfig", "remove": "RemoveSMTPConfig",
    },
    "email": {
        "add": "AddEmailProviderSMTP", "active": "GetEmailProvider", "get": "GetEmailProviderById",
        "list": "ListEmailProviders", "activate": "ActivateEmailProvider", "update": "UpdateEmailProviderSMTP",
        "rotate": "UpdateEmailProviderSMTPPassword", "test": "TestEmailProviderSMTPById",
        "deactivate": "DeactivateEmailProvider", "remove": "RemoveEmailProvider",
    },
}  # fmt: skip


def life(call: Call, family: str, relay: str) -> dict[str, Any]:
    """Live it and return what was seen, as `expected` says it."""
    names = FAMILIES[family]
    seen: dict[str, Any] = {}
    config = {
        "senderAddress": "noreply@example.com", "senderName": "Example", "host": relay, "user": USER,
        "password": "another", "description": "by a client", "replyToAddress": "help@example.com",
    }  # fmt: skip
    mail = {"receiverAddress": "ada@example.org"}

    def done(what: str, **request: Any) -> dict[str, Any]:
        return call(names[what], request)

    def failed(what: str, **request: Any) -> list[Any]:
        try:
            done(what, **request)
        except Failure as failure:
            return [failure.code, failure.id]
        raise AssertionError(f"{names[what]} was to fail")

    def shown(what: str, **request: Any) -> dict[str, Any]:
        answer = done(what, **request)
        provider = answer.get("config") or answer["smtpConfig"]
        fields = provider | provider.get("smtp", {}) | {"state": provider["state"].rpartition("_")[2]}
        return {name: fields.get(name, "") for name in ("senderName", "host", "user", "description", "state")}

    seen["noneActive"] = failed("active")
    added = done("add", **config)
    one = {"id": added["id"]}
    seen["idDigits"] = len(added["id"])
    seen["added"] = shown("get", **one)
    seen["listed"] = [item["id"] == added["id"] for item in done("list", query={"limit": 10})["result"]]
    done("activate", **one)
    seen["active"] = shown("active")
    seen["twice"] = failed("activate", **one)
    seen["wrongPassword"] = failed("test", **one, **mail)
    renamed = {**config, "password": "", "senderName": "Größe", "description": ""}
    done("update", **one, **renamed)
    seen["updated"] = shown("active")
    rotated = done("rotate", **one, password=PASSWORD)
    seen["sequenceGrows"] = int(rotated["details"]["sequence"]) > int(added["details"]["sequence"])
    done("test", **one, **mail)
    done("deactivate", **one)
    seen["inactive"] = shown("get", **one)
    done("remove", **one)
    seen["removed"] = failed("get", **one)
    seen["tooLong"] = failed("get", id="x" * 201)
    seen["listedAfterwards"] = len(done("list").get("result", ()))
    return seen


def expected(relay: str) -> dict[str, Any]:
    """Return what a life is to show."""
    added = {"senderName": "Example", "host": relay, "user": USER, "description": "by a client", "state": "INACTIVE"}
    updated = added | {"senderName": "Größe", "description": ""}
    return {
        "noneActive": [5, "QUERY-fwofw"],
        "idDigits": 18,
        "added": added,
        "listed": [True],
        "active": added | {"state": "ACTIVE"},
        "twice": [9, "COMMAND-vUHBSmBzaw"],
        "wrongPassword": [13, "EMAIL-s9kfs"],
        "updated": updated | {"state": "ACTIVE"},
        "sequenceGrows": True,
        "inactive": updated,
        "removed": [5, "QUERY-fwofw"],
        "tooLong": [3, ""],
        "listedAfterwards": 0,
    }
