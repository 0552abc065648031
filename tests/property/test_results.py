"""Whatever a worker validly sends is what the record says afterwards, once."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aero import Aero
from aero.hashing import sha256_text
from tests.chains import payload_of, stored
from tests.invariants import check_invariants
from tests.scenarios import analysis, length, made, source

texts = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=8)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | texts,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3)
    ),
    max_leaves=5,
)
steps = st.lists(
    st.fixed_dictionaries(
        {
            "name": st.sampled_from(["download", "get_versions", "function"]),
            "status": st.just("SUCCEEDED"),
            "seconds": st.floats(0, 10**6),
        }
    ),
    unique_by=lambda step: step["name"],
)


@settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    content=st.binary(max_size=8),
    name=st.text("abc. /\\", max_size=6),
    environment=st.dictionaries(texts, values, max_size=3),
    went=steps,
    printed=texts,
)
def test_what_is_sent_is_recorded(
    sqlite_app: Aero,
    tmp_path: Path,
    content: bytes,
    name: str,
    environment: dict[str, Any],
    went: list[dict[str, Any]],
    printed: str,
) -> None:
    flow = _flow(sqlite_app, tmp_path)
    sent = sqlite_app.pin_inputs(payload_of(flow)) | {
        "environment": environment,
        "steps": went,
        "log_tail": printed,
    }
    sent["output_data"]["n"] |= stored(sqlite_app, tmp_path, content)
    sent["output_data"]["n"]["file_bn"] = name
    record = sqlite_app.commit_result(json.loads(json.dumps(sent)))
    [version] = record["contributed_to"]
    assert version["checksum"] == sent["output_data"]["n"]["sha256"]
    assert version["data_file"]["file_size"] == len(content)
    assert not {"/", "\\"} & set(version["data_file"]["file_name"])
    assert record["environment"] == environment
    told = [
        {key: step[key] for key in went[0]} for step in record["steps"][:-1] if went
    ]
    assert told == went
    run = sqlite_app.get_run(record["run_id"])
    assert run["log_tail"] == (printed or None)
    assert sqlite_app.commit_result(sent) == record
    counts = Counter(r["trigger_key"] for r in sqlite_app.list_runs(flow["id"]))
    assert set(counts.values()) == {1}
    assert check_invariants(sqlite_app.db, store=sqlite_app.settings.store) == []


def _flow(app: Aero, folder: Path) -> Any:
    """Return an analysis of a source with one version, the same for each example."""
    path = folder / "cases.csv"
    path.write_text(sha256_text("one"))
    flows = list(app.list_metadata("flow"))
    if not flows:
        cases = source(app, path.as_uri())
        app.run_flow(cases["id"])
        return analysis(app, length, {"cases": made(cases)}, policy="NONE")
    return next(flow for flow in flows if flow["function_id"])
