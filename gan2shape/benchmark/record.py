"""`benchmark.yaml`: what a benchmark directory holds, and what its rows were made from.

benchmark.yaml       this
data/<split>         the heads that all rows are scored on
cache/               train heads, their average depth, trainings (or elsewhere: --cache)
rows/<number>-<name> the rows' run directories
views/               scores and pictures of turned and relit heads
index.html           page;  table.md, table.csv, table.parquet, scores.parquet
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from gan2shape.benchmark.plan import HeadSet, Plan, Row, Training
from gan2shape.jobs.files import write_whole
from gan2shape.jobs.run.store import Weights
from gan2shape.schemas.errors import UserError

RECORD = "benchmark.yaml"


@dataclass(frozen=True)
class RowRecord:
    """What a row was made from."""

    key: str
    trainings: list[str]
    """Folders in the cache of all that its networks come from, they last; none for packaged ones.
    """


@dataclass(frozen=True)
class Record:
    """What `benchmark report` needs to know."""

    recipe: dict[str, Any]
    heads: HeadSet
    train_heads: HeadSet
    gan: Weights
    priors: str | None
    cache: str
    """Relative to the benchmark's directory where it is in it."""
    lpips: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    """Those that all rows share, and what they came to: see `Plan.options`."""
    rows: dict[int, RowRecord] = field(default_factory=dict)
    """By number; rows that have been begun."""


@dataclass(frozen=True)
class Bench:
    """An open benchmark directory."""

    out: Path
    record: Record

    @property
    def cache(self) -> Path:
        """Where train heads and trainings are."""
        return (self.out / self.record.cache).resolve()

    @property
    def heads(self) -> Path:
        """The heads that all rows are scored on."""
        return self.out / "data" / self.record.heads.split

    @property
    def train_heads(self) -> Path:
        """The heads that trainings learn from; in the cache, for all benchmarks that share it."""
        return train_folder(self.cache, self.record.train_heads)

    def row(self, folder: str) -> Path:
        """The run directory of a row."""
        return self.out / "rows" / folder


def train_folder(cache: Path, heads: HeadSet) -> Path:
    """Where a cache keeps these train heads."""
    return cache / f"{heads.split}-{heads.count}-{heads.key[:6]}"


def open_bench(out: Path) -> Bench:
    """Read a benchmark directory. Raises `UserError` when there is none or it is damaged."""
    file = out / RECORD
    try:
        tree = yaml.safe_load(file.read_text())
        for name in ("heads", "train_heads"):
            tree[name] = HeadSet(**tree[name])
        tree["gan"] = Weights(**tree["gan"])
        tree["rows"] = {number: RowRecord(**row) for number, row in tree["rows"].items()}
        return Bench(out, Record(**tree))
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{out} is no benchmark: it holds no {RECORD}.") from None
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}.") from error
    except (yaml.YAMLError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{file} is damaged; make the benchmark in another directory.") from error


def begin(out: Path, plan: Plan, recipe: dict[str, Any], cache: Path) -> Bench:
    """Open the benchmark at `out` for a plan, or make it.

    Raises `UserError` when it holds other heads, another GAN or another seed, or rows that were
    made otherwise.
    """
    rows: dict[int, RowRecord] = {}
    if (out / RECORD).exists():
        before = open_bench(out).record
        known = {
            "heads": before.heads == plan.heads,
            "train heads": before.train_heads == plan.train_heads,
            "GAN weights": before.gan.sha256 == plan.gan.sha256,
        }
        changed = [name for name, same in known.items() if not same]
        options = before.options
        changed += [name for name, value in options.items() if plan.options.get(name) != value]
        if changed:
            raise UserError(
                f"{out} holds a benchmark with other {' and '.join(changed)}; give the options "
                "that it began with, or another --out."
            )
        rows = before.rows
    inside, place = out.resolve(), cache.resolve()
    record = Record(
        *(recipe, plan.heads, plan.train_heads, plan.gan, plan.priors),
        str(place.relative_to(inside) if place.is_relative_to(inside) else place),
        *(plan.lpips, plan.options, rows),
    )
    bench = Bench(out, record)
    for row in plan.rows:
        _check_row(bench, row)
    out.mkdir(parents=True, exist_ok=True)
    _write(bench)
    return bench


def _check_row(bench: Bench, row: Row) -> None:
    """Raise `UserError` when the row's run was made from anything else."""
    folder = bench.row(row.method.folder)
    known = bench.record.rows.get(row.method.number)
    if (folder / "run.yaml").exists() and (known is None or known.key != row.key):
        raise UserError(
            f"{folder} was made with other settings or networks; give the options that it was "
            "made with, remove it to make it anew, or give another --out."
        )


def add_row(bench: Bench, row: Row) -> Bench:
    """Note what a row is made from, before it is."""
    chain = row.start.chain if isinstance(row.start, Training) else ()
    folders = list(dict.fromkeys(training.folder for training in chain))
    rows = bench.record.rows | {row.method.number: RowRecord(row.key, folders)}
    bench = replace(bench, record=replace(bench.record, rows=dict(sorted(rows.items()))))
    _write(bench)
    return bench


def _write(bench: Bench) -> None:
    text = yaml.safe_dump(asdict(bench.record), sort_keys=False)
    write_whole(bench.out / RECORD, text.encode())
