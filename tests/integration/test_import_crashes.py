"""`agentkit import` dies at each of its points, and the same command does what is left: nothing lost, nothing twice."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.stack import ROOT, environment
from tests.golden.make_store import dump
from tests.integration.test_backup import Installation, sub_agent
from tests.tools import YES

POINTS = {
    "before stage_run": 3,
    "after stage_run": 5,
    "before activate_run": 2,
    "after activate_run": 3,
    "before index": 1,
    "after list_items": 2,
    "before schedule": 2,
    "after schedule": 4,
    "after restore": 1,
    "before restore_answers": 1,
    "after restore_answers": 1,
}
"""At which passing of each point it dies."""


def imported(url: str, path: Path, failpoint: Path | None = None) -> subprocess.CompletedProcess[str]:
    env = environment(AGENTKIT_REDIS_URL=url, AGENTKIT_KEY_PREFIX="other:", PYTHONPATH=str(ROOT))
    if failpoint is not None:
        env["AGENTKIT_FAILPOINT"] = str(failpoint)
    words = [sys.executable, "-c", "from agentkit.cli import main; main()", "import", str(path)]
    return subprocess.run(words, env=env, cwd=path.parent, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture
def file(redis_url: str, tmp_path: Path) -> Iterator[tuple[Installation, Path]]:
    """An installation with runs of several kinds, and its export."""
    made = Installation(redis_url)
    done = made.kit.start("talker", "hi", owner="ann", idempotency_key="k").id
    answered = made.kit.start("asker", "hi", owner="ann").id
    made.kit.start("asker", "hi", owner="bob")
    sub_agent(made)
    made.kit.resume(answered, YES, decided_by="bob")
    made.work()
    made.kit.start("talker", "later")
    made.store.extend_thread("talk", done, None, {})
    path = tmp_path / "backup.jsonl"
    path.write_bytes(made.export())
    yield made, path
    made.close()


@pytest.mark.timeout(240)
@pytest.mark.parametrize("point", POINTS)
def test_an_import_that_dies_is_finished_by_the_same_command(
    point: str, file: tuple[Installation, Path], redis_url: str, tmp_path: Path
) -> None:
    made, path = file
    failpoint = tmp_path / "failpoint"
    failpoint.write_text(f"{point} {POINTS[point]}")
    assert imported(redis_url, path, failpoint).returncode == -9
    other = Installation(redis_url, "other:")
    for run_id in made.store.listing(None, 100):
        shown = other.web.get(f"/runs/{run_id}")
        assert shown.status_code == 404 or shown.data == made.web.get(f"/runs/{run_id}").data, "nothing is half there"
    again = imported(redis_url, path, failpoint)
    assert (again.returncode, "failed" in again.stderr) == (0, False), again.stderr
    assert other.run_keys() == made.run_keys()
    ids = made.store.listing(None, 100)
    assert other.store.listing(None, 100) == ids
    assert all(other.store.next_check(run_id) is not None for run_id in ids)
    keys: dict[str, Any] = dump(other.client)
    assert not [name for name in keys if "}:i" in name]
    assert keys["other:{inbox}"]["value"] == keys["agentkit:{inbox}"]["value"]
    for query in ("status=paused", "owner=ann", "agent=talker", "limit=100"):
        assert other.web.get(f"/runs?{query}").data == made.web.get(f"/runs?{query}").data
    assert other.store.chain_lines(0, 10) == made.store.chain_lines(0, 10) != []
    other.close()
