"""An installation moves from one server into a Redis Cluster, and from there to one server again."""

from __future__ import annotations

import json

import pytest

from agentkit.runtime.upgrade import index_items, index_runs
from tests.golden.make_store import FOLDER, restore
from tests.integration.test_backup import OTHER, Installation
from tests.servers import ClusterServers
from tests.tools import YES


@pytest.mark.timeout(240)
def test_runs_move_into_a_cluster_and_out_of_it(redis_url: str) -> None:
    before, after = Installation(redis_url), Installation(redis_url, OTHER)
    restore(before.client, json.loads((FOLDER / "v5.json").read_text())["keys"])
    index_runs(before.store)
    index_items(before.store)
    before.kit.start("talker", "hi", owner="ann", idempotency_key="k")
    answered = before.kit.start("asker", "hi", owner="ann").id
    before.work()
    before.kit.resume(answered, YES, decision_id=before.kit.get(answered).pending[0]["decisionId"])
    before.store.extend_thread("talk", answered, None, {"m": "digest"})
    ids = before.store.listing(None, 100)
    with ClusterServers(replicas=0) as servers:
        cluster = Installation(servers.url)
        work, said = cluster.load(before.export())
        assert (work.imported, work.failed, said) == (len(ids), 0, [])
        assert cluster.store.listing(None, 100) == ids
        for run_id in ids:
            assert cluster.web.get(f"/runs/{run_id}").data == before.web.get(f"/runs/{run_id}").data
            assert cluster.store.events(run_id, 0, 10_000) == before.store.events(run_id, 0, 10_000)
        assert cluster.web.get("/decisions?limit=100").data == before.web.get("/decisions?limit=100").data
        work, said = after.load(cluster.export())
        assert (work.imported, work.failed, said) == (len(ids), 0, [])
        cluster.work()
        assert cluster.kit.get(answered).status == "completed", "what was due is done in the cluster"
        cluster.close()
    assert after.run_keys() == before.run_keys()
    assert after.store.chain_lines(0, 10) == before.store.chain_lines(0, 10) != []
    for installation in (before, after):
        installation.close()
