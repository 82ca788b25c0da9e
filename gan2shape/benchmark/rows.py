"""The run of a row: made, gone on with, or left alone where it is finished."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from gan2shape.benchmark.plan import Row
from gan2shape.jobs.run import store
from gan2shape.jobs.run.start import Execution, Request, check_weights, execute, prepare
from gan2shape.jobs.run.status import RunStatus
from gan2shape.schemas.errors import UserError


def make_row(
    row: Row,
    folder: Path,
    heads: Path,
    networks: str,
    execution: Execution,
    priors: str | None = None,
    show: Callable[[RunStatus], None] = lambda status: None,
) -> bool:
    """Reconstruct `heads` from `networks` as the row says; returns whether there was need to.

    A run in `folder` was made from the same, as its key tells; `priors` are for its record. Raises
    `UserError` when weights are gone, or shards could not be done.
    """
    if is_made(folder):
        return False
    run = _opened(folder)
    if run is None:
        request = Request(
            source=str(heads.resolve()),
            gan=row.gan.path,
            out=folder,
            config=row.config,
            networks=networks,
            priors=priors,
            spread=False,  # the same shards, and so the same run, on every machine
        )
        run, _ = prepare(request, execution)
    else:
        check_weights(run)
    outcome = execute(run, execution, show)
    if outcome.shard_errors:
        shard, reason = min(outcome.shard_errors.items())
        raise UserError(
            f"{len(outcome.shard_errors)} of {outcome.status.shards} shards of {folder} are not "
            f"done (shard {shard}: {reason}); the same command tries them again."
        )
    return True


def is_made(folder: Path) -> bool:
    """Whether the run in `folder` is finished."""
    run = _opened(folder)
    return run is not None and not store.missing_shards(run)


def _opened(folder: Path) -> store.Run | None:
    return store.open_run(folder) if (folder / "run.yaml").exists() else None
