"""Puts the runs of a file that `backup.py` has written into a store.

Rules that this module alone knows:

1. Nothing is seen of an import before all of its runs are laid down, and nothing at all where one of them is in the
   store already. A run and those of its sub-agents come together, and only then are any of them due: a worker that met
   half of them would take the others for deleted.
2. A line that cannot be used costs what it holds, and what belongs together with that. All other lines count.
3. An import that was interrupted, or that is given again, does what is left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from agentkit.core.inbox import listed_items, own_items
from agentkit.core.words import counted
from agentkit.errors import AgentKitError, DecryptionError, RunNotFoundError, StoreUnavailableError
from agentkit.runtime.backup import Say, backup_store, waits_for
from agentkit.store.backup import (
    Answer,
    AnswerChain,
    BackupStore,
    BoundKey,
    Ending,
    Line,
    Opening,
    Quota,
    RefusedRecipient,
    StoredRun,
    StoredThreadHash,
    unseal,
)
from agentkit.store.protocol import Store

__all__ = ["Import", "ImportRefusedError"]

_PAGE = 500
_AFTER_END_MS = 1000


class ImportRefusedError(AgentKitError):
    """Nothing was imported: runs of the file are in the store already."""

    code = "import_refused"


@dataclass(frozen=True, slots=True)
class _Staged:
    line: int
    mark: str
    expires_at: int | None
    parent: str | None
    """The run that waits for it, where it has not ended."""
    waits_for: tuple[str, ...]
    quota: Quota | None
    is_there: bool
    """Whether it was restored from the same line before."""


@dataclass
class Import:
    """One import. `keys`: fingerprints of this installation's encryption keys. `dry_run`: nothing is written.

    `skip_existing`: runs that are in the store stay as they are, and are left out. `imported`: how many runs were
    restored, or would be. `there`: how many were restored from the same lines before. `skipped`: how many are in the
    store otherwise. `expired`: how many have ended and would be forgotten by now. `failed`: how many lines, and runs,
    could not be used.
    """

    store: Store
    keys: Sequence[str] = ()
    skip_existing: bool = False
    dry_run: bool = False
    say: Say = lambda line: None
    progress: Callable[[int], None] = lambda count: None
    imported: int = 0
    there: int = 0
    skipped: int = 0
    expired: int = 0
    failed: int = 0
    _staged: dict[str, _Staged] = field(default_factory=dict)
    _bound: list[BoundKey | StoredThreadHash | RefusedRecipient] = field(default_factory=list)
    _answers: list[Answer] = field(default_factory=list)
    _existing: list[str] = field(default_factory=list)
    _others_answers: bool = False

    def read(self, lines: Iterable[bytes]) -> None:
        """Put what the lines hold into the store.

        Raises ImportRefusedError where runs are in it already, and StoreUnavailableError, after which the same import
        may be given again.
        """
        store = backup_store(self.store)
        number, ended = 0, False
        for number, raw in enumerate(lines, 1):
            ended = False
            try:
                line = unseal(raw)
                ended = isinstance(line, Ending)
                self._take(store, line, number)
            except (StoreUnavailableError, ImportRefusedError):
                raise
            except DecryptionError as error:
                self._fail(f"line {number}: {error.message}: {error.internal}")
            except AgentKitError as error:
                self._fail(f"line {number}: {error.message}")
        self._settle(store)
        self._append(store)
        if not ended:
            self._fail(
                f"the file ends with line {number}, which is not the last one of an export: what came after it is lost"
            )

    def _take(self, store: BackupStore, line: Line, number: int) -> None:
        if isinstance(line, Opening):
            self._check_keys(line)
        elif isinstance(line, StoredRun):
            self._stage(store, line, number)
        elif isinstance(line, AnswerChain):
            self._settle(store)
            if not self.dry_run:
                store.begin_answers(line)
        elif isinstance(line, Answer):
            self._answers.append(line)
            if len(self._answers) == _PAGE:
                self._append(store)
        elif not isinstance(line, Ending):
            self._bound.append(line)

    def _check_keys(self, opening: Opening) -> None:
        if opening.keys and not set(opening.keys) & set(self.keys):
            mine = f"this process has {', '.join(self.keys)}" if self.keys else "this process has none"
            raise ImportRefusedError(
                f"the file was written with the encryption keys {', '.join(opening.keys)} (each the first 12 digits of "
                f"the key's SHA-256), and {mine}: set AGENTKIT_ENCRYPTION_KEYS as it was. Nothing was imported"
            )

    def _stage(self, store: BackupStore, run: StoredRun, number: int) -> None:
        record = store.state_of(run).record
        parent = None if record.parent is None or record.terminal else record.parent.run_id
        children = () if record.terminal else waits_for(record)
        if run.expires_at is not None and run.expires_at <= self.store.now():
            self.expired += 1
            return
        presence = store.presence(run)
        if presence in ("exists", "deleted"):
            what = "is in the store already" if presence == "exists" else "was deleted from this store"
            self.skipped += 1
            if not self.skip_existing:
                self._existing.append(run.id)
                self.say(f"line {number}: run {run.id} {what}")
            return
        is_there = presence == "restored"
        if not is_there and not self.dry_run:
            store.stage_run(run)
        self._staged[run.id] = _Staged(
            number,
            run.mark,
            run.expires_at,
            None if parent in run.lost else parent,
            tuple(child for child in children if child not in run.lost),
            run.quota,
            is_there,
        )
        self.progress(len(self._staged))

    def _settle(self, store: BackupStore) -> None:
        """Make the runs that are laid down the store's, unless others are in their place."""
        if self._existing:
            raise ImportRefusedError(
                f"nothing was imported: {counted(len(self._existing), 'run is', 'runs are')} in the store already, or "
                "deleted from it; --skip-existing leaves out such runs"
            )
        self._drop_torn()
        for tree in self._trees():
            for run_id in tree:
                self._activate(store, run_id)
            for run_id in tree:
                self._make_due(run_id)
        self._staged.clear()
        for line in self._bound:
            if not self.dry_run:
                store.restore(line)
        self._bound.clear()

    def _drop_torn(self) -> None:
        """Leave out runs whose parent, or whose sub-agents' runs, are neither in the file nor in the store."""
        known: dict[str, bool] = {}

        def is_known(run_id: str) -> bool:
            if run_id not in self._staged and run_id not in known:
                known[run_id] = self.store.loads([run_id]) != [None]
            return run_id in self._staged or known[run_id]

        again = True
        while again:
            again = False
            for run_id, staged in list(self._staged.items()):
                parents = () if staged.parent is None else (staged.parent,)
                lacks = next((each for each in (*parents, *staged.waits_for) if not is_known(each)), None)
                if lacks is not None and not staged.is_there:
                    del self._staged[run_id]
                    again = True
                    self._fail(
                        f"line {staged.line}: run {run_id} belongs together with run {lacks}, which is not in the file "
                        "or could not be used: it is left out"
                    )

    def _trees(self) -> Iterator[list[str]]:
        """Group the runs that belong together: those of sub-agents before the ones that wait for them."""
        children: dict[str, list[str]] = {}
        roots: list[str] = []
        for run_id, staged in self._staged.items():
            if staged.parent in self._staged:
                children.setdefault(staged.parent or "", []).append(run_id)
            else:
                roots.append(run_id)
        for root in roots:
            tree = [root]
            for run_id in tree:
                tree += children.get(run_id, ())
            yield tree[::-1]

    def _activate(self, store: BackupStore, run_id: str) -> None:
        staged = self._staged[run_id]
        if staged.is_there:
            self.there += 1
        else:
            self.imported += 1
        if self.dry_run:
            return
        presence = store.activate_run(run_id, staged.mark, staged.expires_at)
        if presence in ("exists", "deleted"):  # made or deleted since the lines were read
            self.imported -= 1
            self._fail(f"run {run_id} has come into the store since this import began, and stays as it is")
            return
        try:
            record = self.store.load(run_id).record
        except RunNotFoundError:
            return  # deleted since
        self.store.index(run_id, record.owner, agent=record.agent, status=record.status_list)
        self.store.list_items(listed_items(record, own_items(record).values()))
        if record.owner is not None and staged.quota is not None and not record.terminal:
            store.restore_quota(record.owner, run_id, staged.quota)

    def _make_due(self, run_id: str) -> None:
        """Have a worker check the run: at once, or when it is to be forgotten."""
        if not self.dry_run:
            expires_at = self._staged[run_id].expires_at
            is_over = expires_at is not None and not self.store.outbox(run_id)
            self.store.schedule(run_id, (expires_at or 0) + _AFTER_END_MS if is_over else self.store.now())

    def _append(self, store: BackupStore) -> None:
        answers, self._answers = self._answers, []
        if not answers or self.dry_run or self._others_answers:
            return
        if not store.restore_answers(answers):
            self._others_answers = True
            self._fail(
                "this store has answers of its own in its record of answers, and a chain takes no others: those of the "
                "file are left out"
            )

    def _fail(self, text: str) -> None:
        self.failed += 1
        self.say(text)
