"""Whatever the OpenAPI document allows, and what it does not: never an error of the server."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from tests.serve.conftest import Live
from xsearch.collection import Collection

EXAMPLES = 6  # of each operation


def test_no_request_is_a_fault(live: Live, collection: Collection) -> None:
    schemathesis = pytest.importorskip("schemathesis")
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance

    app = live(collection)
    port = app.state.server.settings.port
    schema = schemathesis.openapi.from_dict(app.openapi())
    checks = [not_a_server_error, content_type_conformance, response_schema_conformance]
    count = 0
    for result in schema.get_all_operations():
        operation = result.ok()
        if operation.path == "/v1/events":  # it has no end
            continue

        @given(case=operation.as_strategy())
        @settings(
            max_examples=EXAMPLES,
            derandomize=True,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        def check(case: Any) -> None:
            nonlocal count
            count += 1
            case.call_and_validate(base_url=f"http://127.0.0.1:{port}", checks=checks, timeout=60)

        check()
    assert count > EXAMPLES * 15
