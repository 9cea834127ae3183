"""Chaos: runs of W over real processes that are killed and stopped, with messages lost, doubled and delayed.

    make chaos MINUTES=10     or     python -m chaos --minutes 10 --seed 7

Exit status 0: all checks passed. 1: some did not, and the seed, each violation and the folder of the processes' logs
are printed. The seed fixes the schedule of faults and what clients do, not the interleaving.
"""

from __future__ import annotations

import argparse
import secrets
import shutil
import signal
import sys
import time
from pathlib import Path
from random import Random

from chaos.checks import CHECKS
from chaos.driver import Options, play

__all__ = ["main"]

POOLS = {"threads": "-P threads -c 8", "prefork": "-P prefork -c 4", "gevent": "-P gevent -c 8"}
_RESULTS = Path(__file__).parent / "results"


def main(argv: list[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    seed = arguments.seed or secrets.token_hex(4)
    separate_broker = arguments.broker == "other" if arguments.broker else Random(f"{seed} broker").random() < 0.5
    separate_broker = separate_broker or arguments.cluster
    folder = arguments.folder or _RESULTS / f"{time.strftime('%Y%m%d-%H%M%S')}-seed-{seed}"
    folder.mkdir(parents=True)
    options = Options(
        seed,
        arguments.minutes * 60,
        folder.absolute(),
        arguments.runs,
        arguments.workers,
        arguments.webs,
        arguments.lease,
        separate_broker,
        POOLS.get(arguments.pool, arguments.pool),
        arguments.prefixes,
        arguments.steps_per_message,
        arguments.cluster,
    )
    broker = "other" if separate_broker else "same"
    size = (
        f"{arguments.runs} runs at once, {arguments.workers} workers ({options.pool}), {arguments.webs} web processes"
    )
    if arguments.steps_per_message > 1:
        size += f", up to {arguments.steps_per_message} steps for a message"
    if arguments.cluster:
        size += ", the store a cluster"
    if arguments.prefixes > 1:
        size += f", of each of {arguments.prefixes} prefixes"
    print(
        f"chaos: seed {seed}, {arguments.minutes:g} min, broker {broker}, lease {arguments.lease:g} s, {size}",
        flush=True,
    )
    report = play(options, lambda line: print(line, flush=True))
    print(f"runs: {len(report.runs)} accepted, {report.ended()} followed to their end")
    print(f"faults: {report.summary('fault ')}")
    print(f"messages: {report.summary('message ')}")
    answers = sum(len(run.answers) for run in report.runs)
    print(f"clients: {report.summary('request ')}; streams {report.counts['stream']}, {report.summary('stream ')}")
    print(f"answers: {answers}; items in doubt {report.counts['item in doubt']}")
    print(f"after the faults: {report.counts['seconds until all had ended']} s until all had ended")
    if report.violations:
        print(f"{len(report.violations)} violations, see above. seed {seed}, --broker {broker}; logs: {folder}")
        return 1
    print("checked: " + "; ".join(CHECKS))
    if arguments.folder is None:
        shutil.rmtree(folder)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m chaos", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=1.0, help="how long faults happen (default 1)")
    parser.add_argument("--runs", type=int, default=8, help="runs in flight at once (default 8)")
    parser.add_argument("--seed", help="seed of the schedule and the clients; drawn and printed by default")
    parser.add_argument("--workers", type=int, default=3, help="worker processes (default 3)")
    parser.add_argument("--webs", type=int, default=2, help="web processes (default 2)")
    parser.add_argument("--lease", type=float, default=2.0, help="AGENTKIT_LEASE_SECONDS (default 2)")
    parser.add_argument(
        "--broker",
        choices=("same", "other"),
        help="whether the store is the broker too; drawn from the seed by default",
    )
    parser.add_argument(
        "--pool", default="threads", help=f'{", ".join(POOLS)}, or Celery\'s options, such as "-P prefork -c 2"'
    )
    parser.add_argument("--prefixes", type=int, default=1, help="installations on the same servers (default 1)")
    parser.add_argument("--steps-per-message", type=int, default=1, help="AGENTKIT_STEPS_PER_MESSAGE (default 1)")
    parser.add_argument(
        "--cluster",
        action="store_true",
        help="the store is a Redis Cluster, of three masters and three replicas; masters die and slots move",
    )
    parser.add_argument("--folder", type=Path, help="a new folder for data and logs; kept even where all checks pass")
    return parser


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("chaos: stopped"))  # `play` ends its processes on the way out
    sys.exit(main())
