"""Schemathesis calls all that /openapi.json tells of: no answer is a 5xx, and each is as the document says."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.support.program import Program

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
EXAMPLES = 4  #: for each operation; about as many seconds for all of them
KNOWN = 3  #: providers that are there, and may be gone in the end


def operations(program: Program) -> list[Any]:
    """Return the operations that are served. Tests of providers are left out: they connect to any host they are told.

    An answer with a field that the document does not name is taken for a fault.
    """
    document = program.request("GET", "/openapi.json", token="").json
    for schema in document["components"]["schemas"].values():
        if "properties" in schema:
            schema["additionalProperties"] = False
    results: Iterator[Any] = schemathesis.openapi.from_dict(document).get_all_operations()
    found = [result.ok() for result in results]
    return [
        one
        for one in found
        if not one.definition.raw.get("x-not-implemented") and not one.path.endswith(("/_test", ":test"))
    ]


def test_whatever_is_asked_the_answer_is_as_documented_and_no_server_error(program: Program) -> None:
    known = [program.add_relay("127.0.0.1:1", activate=False) for _ in range(KNOWN)]
    base_url, owner = f"http://127.0.0.1:{program.http_port}", {"authorization": f"Bearer {program.owner}"}
    seen: Counter[int] = Counter()
    faults: list[str] = []
    served = operations(program)

    for operation in served:
        right, wrong = (operation.as_strategy(generation_mode=mode) for mode in GenerationMode)

        @settings(
            max_examples=EXAMPLES,
            derandomize=True,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(case=right | wrong, id=st.sampled_from([*known, None]))
        def ask(case: Any, id: str | None) -> None:
            if id is not None and "id" in (case.path_parameters or {}):
                case.path_parameters["id"] = id
            answer = case.call(base_url=base_url, headers=owner)
            seen[answer.status_code] += 1
            try:
                case.validate_response(answer, checks=CHECKS)
            except FailureGroup as fault:
                faults.append(f"{case.as_curl_command()}\n{answer.status_code} {answer.text}\n{fault}")

        ask()

    assert faults == []
    assert len(served) > 70
    assert {200, 400, 404} <= set(seen)
    assert b"Traceback" not in program.log.read_bytes()
