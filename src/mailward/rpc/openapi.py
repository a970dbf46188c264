"""OpenAPI 3.1 of every registered service, from its descriptors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from mailward.proto.validate import validate_pb2
from mailward.proto.zitadel import options_pb2
from mailward.rpc.service import Method, Registry, RestStyle
from mailward.rpc.transcode import Route, routes

_F = FieldDescriptor
_Schema = dict[str, Any]

_SCALARS: dict[int, _Schema] = {
    _F.CPPTYPE_BOOL: {"type": "boolean"},
    _F.CPPTYPE_STRING: {"type": "string"},
    _F.CPPTYPE_INT32: {"type": "integer", "format": "int32"},
    _F.CPPTYPE_UINT32: {"type": "integer", "minimum": 0, "maximum": 4294967295},
    _F.CPPTYPE_INT64: {"type": "string", "format": "int64"},
    _F.CPPTYPE_UINT64: {"type": "string", "format": "uint64"},
    _F.CPPTYPE_DOUBLE: {"type": "number"},
    _F.CPPTYPE_FLOAT: {"type": "number"},
}
_WELL_KNOWN: dict[str, _Schema] = {
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    "google.protobuf.Duration": {"type": "string", "pattern": r"^-?[0-9]{1,12}(\.[0-9]{1,9})?s$"},
    "google.protobuf.Struct": {"type": "object"},
    "google.protobuf.ListValue": {"type": "array"},
    "google.protobuf.Value": {},
}
_ERROR: _Schema = {
    "type": "object",
    "required": ["code", "message"],
    "properties": {
        "code": {"type": "integer", "description": "gRPC status code."},
        "message": {"type": "string"},
        "details": {
            "type": "array",
            "items": {"type": "object", "required": ["@type"], "properties": {"@type": {"type": "string"}}},
        },
    },
}
_PROBLEM: _Schema = {
    "type": "object",
    "description": "RFC 9457 problem document.",
    "required": ["type", "title", "status", "detail", "code", "request_id"],
    "properties": {
        "type": {"type": "string", "format": "uri"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string", "description": "Stable word for programs."},
        "request_id": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["pointer", "code", "message"],
                "properties": {
                    "pointer": {"type": "string", "description": "RFC 6901 pointer to the field at fault."},
                    "code": {"type": "string"},
                    "message": {"type": "string"},
                },
            },
        },
    },
}


def document(registry: Registry, *, title: str, version: str, comments: Mapping[str, str]) -> dict[str, Any]:
    """Return the OpenAPI document. A method that answers 501 is marked by "x-not-implemented".

    `comments`: full name of a method, message or field → what its .proto file says about it.
    """
    schemas: dict[str, _Schema] = {"Error": _ERROR, "Problem": _PROBLEM}
    paths: dict[str, dict[str, Any]] = {}
    for service in registry.services.values():
        for method in service.methods.values():
            for number, route in enumerate(routes(method), start=1):
                operation = _Operation(route, schemas, comments).build()
                if number > 1:  # A further path of the same method; ids must be unique.
                    operation["operationId"] += f"_{number}"
                paths.setdefault(route.template, {})[route.verb.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version},
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
    }


class _Operation:
    """One route as an operation object; schemas it needs are added to `schemas`."""

    def __init__(self, route: Route, schemas: dict[str, _Schema], comments: Mapping[str, str]) -> None:
        self._route = route
        self._method: Method = route.method
        self._style: RestStyle = route.method.service.style
        self._schemas = schemas
        self._comments = comments

    def build(self) -> dict[str, Any]:
        descriptor = self._method.descriptor
        permission = descriptor.GetOptions().Extensions[options_pb2.auth_option].permission
        about = [self._comments.get(descriptor.full_name, "")]
        if permission:
            about.append(f"Permission: `{permission}`.")
        if self._method.handler is None:
            about.append("Not served: answers 501.")
        in_path = {field.name for field in self._route.fields}
        parameters = [
            {"name": field.name, "in": "path", "required": True, "schema": self._one(field), **self._about(field)}
            for field in self._route.fields
        ]
        if self._style.query and not self._route.takes_body:
            parameters += [
                {"name": field.name, "in": "query", "schema": self._field(field), **self._about(field)}
                for field in descriptor.input_type.fields
                if field.name not in in_path
            ]
        operation: dict[str, Any] = {
            "operationId": descriptor.name,
            "tags": [self._method.service.descriptor.name],
            "description": "\n\n".join(part for part in about if part),
            "parameters": parameters,
            "responses": self._responses(),
            "security": [{"token": []}] if permission else [],
        }
        if self._method.handler is None:
            operation["x-not-implemented"] = True
        if self._route.takes_body:
            schema = self._object(descriptor.input_type, without=in_path, is_request=True)
            operation["requestBody"] = {"content": {"application/json": {"schema": schema}}}
        return operation

    def _responses(self) -> dict[str, Any]:
        status = str(self._style.statuses.get(self._method.descriptor.name, 200))
        error = ("application/problem+json", "Problem") if self._style.problems else ("application/json", "Error")
        schema = self._reference(self._method.descriptor.output_type)
        return {
            status: {"description": "Done.", "content": {"application/json": {"schema": schema}}},
            "default": {
                "description": "An error.",
                "content": {error[0]: {"schema": {"$ref": f"#/components/schemas/{error[1]}"}}},
            },
        }

    def _reference(self, descriptor: Descriptor, *, is_request: bool = False) -> _Schema:
        if descriptor.full_name in _WELL_KNOWN:
            return dict(_WELL_KNOWN[descriptor.full_name])
        if descriptor.full_name not in self._schemas:
            self._schemas[descriptor.full_name] = {}  # A message may hold itself.
            self._schemas[descriptor.full_name] = self._object(descriptor, is_request=is_request)
        return {"$ref": f"#/components/schemas/{descriptor.full_name}"}

    def _object(
        self, descriptor: Descriptor, *, without: set[str] | frozenset[str] = frozenset(), is_request: bool = False
    ) -> _Schema:
        fields = [field for field in descriptor.fields if field.name not in without]
        schema: _Schema = {
            "type": "object",
            "properties": {self._name(field): self._field(field, is_request=is_request) for field in fields},
        }
        if comment := self._comments.get(descriptor.full_name):
            schema["description"] = comment
        required = [self._name(field) for field in fields if is_request and _is_required(field)]
        if required:
            schema["required"] = required
        if is_request and self._style.refuse_unknown:
            schema["additionalProperties"] = False
        return schema

    def _name(self, field: FieldDescriptor) -> str:
        return field.name if self._style.proto_names else field.json_name

    def _about(self, field: FieldDescriptor) -> dict[str, str]:
        comment = self._comments.get(field.full_name)
        return {"description": comment} if comment else {}

    def _field(self, field: FieldDescriptor, *, is_request: bool = False) -> _Schema:
        rules = field.GetOptions().Extensions[validate_pb2.rules]
        schema: _Schema
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            value = field.message_type.fields_by_name["value"]
            schema = {"type": "object", "additionalProperties": self._one(value, rules.map.values)}
            if rules.map.HasField("max_pairs"):
                schema["maxProperties"] = rules.map.max_pairs
        elif field.is_repeated:
            schema = {"type": "array", "items": self._one(field, rules.repeated.items, is_request=is_request)}
            if rules.repeated.HasField("max_items"):
                schema["maxItems"] = rules.repeated.max_items
            if rules.repeated.min_items:
                schema["minItems"] = rules.repeated.min_items
        else:
            schema = self._one(field, is_request=is_request)
        if field.GetOptions().deprecated:
            schema["deprecated"] = True
        return {**schema, **self._about(field)}

    def _one(
        self, field: FieldDescriptor, rules: validate_pb2.FieldRules | None = None, *, is_request: bool = False
    ) -> _Schema:
        """Return the schema of one value of `field`."""
        if field.message_type is not None:
            return self._reference(field.message_type, is_request=is_request)
        if field.enum_type is not None:
            return {"type": "string", "enum": [value.name for value in field.enum_type.values]}
        if field.type == _F.TYPE_BYTES:
            return {"type": "string", "contentEncoding": "base64"}
        schema = dict(_SCALARS[field.cpp_type])
        rules = rules or field.GetOptions().Extensions[validate_pb2.rules]
        if rules.string.min_len:
            schema["minLength"] = rules.string.min_len
        if rules.string.HasField("max_len"):
            schema["maxLength"] = rules.string.max_len
        if rules.int32.HasField("gte"):
            schema["minimum"] = rules.int32.gte
        if rules.int32.HasField("lte"):
            schema["maximum"] = rules.int32.lte
        return schema


def _is_required(field: FieldDescriptor) -> bool:
    rules = field.GetOptions().Extensions[validate_pb2.rules]
    return bool(rules.string.min_len or rules.repeated.min_items or rules.message.required)
