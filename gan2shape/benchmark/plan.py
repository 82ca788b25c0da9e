"""From what the user asks for to the trainings and runs that make the table: plain data.

Everything bears a key: the SHA-256 of all that decides it. A training is kept in the cache under
its key, and a row's run is gone on with while its key is the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from gan2shape.benchmark.methods import (
    AVERAGE,
    BY_NUMBER,
    CONSTANT,
    TRAININGS,
    Method,
    TrainingKind,
)
from gan2shape.jobs.run.start import weights_path
from gan2shape.jobs.run.store import Weights
from gan2shape.jobs.weights.lpips_file import load_lpips
from gan2shape.jobs.weights.networks_file import load_networks
from gan2shape.jobs.weights.stylegan2_file import load_gan
from gan2shape.pipeline.networks.trained import check_networks
from gan2shape.pipeline.stylegan2.gan import Gan
from gan2shape.pipeline.synthetic.parameters import RECIPE_VERSION
from gan2shape.pipeline.synthetic.splits import split_seeds
from gan2shape.schemas.benchmark import Recipe
from gan2shape.schemas.errors import UserError
from gan2shape.schemas.network_training import AnyBaseline, baseline_config
from gan2shape.schemas.packaged import NETWORKS_FILE, asset_names, asset_path
from gan2shape.schemas.settings import RunConfig, plain_digest

CATEGORY = "heads64"
"""The packaged model of synthetic heads."""
KEY_SHOWN = 12


@dataclass(frozen=True)
class Request:
    """What `gan2shape benchmark heads` was asked to do."""

    out: Path
    recipe: Recipe
    split: str = "test"
    count: int | None = None
    """Heads to score on; the recipe's unless given."""
    rows: tuple[int, ...] = tuple(BY_NUMBER)
    gan: str = CATEGORY
    priors: str | None = None
    """A file, or a packaged name; the packaged ones, if there are any, unless given."""
    packaged: bool = False
    """Start from the packaged networks in place of training those with symmetry."""
    cache: Path | None = None
    lpips: Path | None = None
    """VGG16-LPIPS weights, for one more score of turned and relit heads."""
    seed: int = 0


@dataclass(frozen=True)
class HeadSet:
    """The first heads of a split, as `gan2shape synth heads` draws them."""

    split: str
    count: int
    size: int
    recipe: int = RECIPE_VERSION

    @property
    def seeds(self) -> range:
        """Their identities. Raises `SplitError` for more than the split has."""
        return split_seeds(self.split, self.count)

    @property
    def key(self) -> str:
        return plain_digest(vars(self))

    def __str__(self) -> str:
        heads = "head" if self.count == 1 else "heads"
        return f"{self.count} {heads} of the {self.split} split at {self.size} pixels"


@dataclass(frozen=True)
class Training:
    """Networks that are trained once, and all that decides them."""

    kind: TrainingKind
    config: AnyBaseline | RunConfig
    """With the priors' settings in it."""
    heads: HeadSet
    """What it may learn from."""
    limit: int | None = None
    """It takes the first ones alone."""
    gan: Weights | None = None
    start: Training | None = None
    """Whose networks it goes on from."""
    teachers: tuple[Training, ...] = ()
    """Whose networks' shapes it learns besides."""
    version: str = metadata.version("gan2shape")

    @property
    def name(self) -> str:
        return self.kind.name

    @property
    def origin(self) -> dict[str, Any]:
        """What the key is made from."""
        origin: dict[str, Any] = {
            "kind": self.name,
            "settings": self.config.model_dump(mode="json"),
            "heads": vars(self.heads),
            "limit": self.limit,
            "gan": self.gan and self.gan.sha256,
            "version": self.version,
        }
        if self.start is not None:
            origin["start"] = self.start.key
        if self.teachers:
            origin["teachers"] = [teacher.key for teacher in self.teachers]
        return origin

    @property
    def key(self) -> str:
        return plain_digest(self.origin)

    @property
    def folder(self) -> str:
        """Its name in the cache."""
        return f"{self.name}-{self.key[:KEY_SHOWN]}"

    @property
    def chain(self) -> tuple[Training, ...]:
        """Itself, after the trainings whose networks it needs."""
        needed = (self.start, *self.teachers) if self.start else self.teachers
        return (*(each for training in needed for each in training.chain), self)

    def __str__(self) -> str:
        limit = f", the first {self.limit}" if self.limit else ""
        return f"training {self.folder} on {self.heads}{limit}"


@dataclass(frozen=True)
class Row:
    """A row whose shapes come from a run."""

    method: Method
    config: RunConfig
    start: Training | Weights
    """Networks to start from: trained here, or packaged."""
    heads: HeadSet
    gan: Weights

    @property
    def key(self) -> str:
        start = self.start
        return plain_digest(
            {
                "row": self.method.number,
                "settings": self.config.model_dump(mode="json"),
                "networks": start.key if isinstance(start, Training) else start.sha256,
                "heads": self.heads.key,
                "gan": self.gan.sha256,
            }
        )

    def __str__(self) -> str:
        start = self.start
        source = start.folder if isinstance(start, Training) else f"packaged {start.path}"
        return f"row {self.method.label}: {self.config.recipe} from {source}"


@dataclass(frozen=True)
class Plan:
    """All that one command does."""

    heads: HeadSet
    """What every row is scored on."""
    train_heads: HeadSet
    """What the average depth and the trainings come from."""
    rows: tuple[Row, ...]
    gan: Weights
    priors: str | None
    lpips: str | None = None
    """A file."""
    options: dict[str, Any] = field(default_factory=dict)
    """What else is the same for all rows of a benchmark, by the option that decides it."""

    @property
    def trainings(self) -> tuple[Training, ...]:
        """Those that the rows need, each once, in their order."""
        starts = [row.start for row in self.rows if isinstance(row.start, Training)]
        return tuple({each.key: each for start in starts for each in start.chain}.values())

    def lines(self) -> Iterator[str]:
        """The parts, one sentence each."""
        yield str(self.heads)
        yield str(self.train_heads)
        yield from map(str, self.trainings)
        yield from map(str, self.rows)

    def __str__(self) -> str:
        return "\n".join(self.lines())


def make_plan(request: Request) -> Plan:
    """Resolve settings, weights and keys. Raises `UserError` for what does not fit."""
    recipe = request.recipe
    gan = load_gan(request.gan)
    weights = Weights(weights_path(request.gan), gan.sha256)
    if request.lpips is not None:
        load_lpips(request.lpips)  # its errors at once, and not after hours
    priors = request.priors or (CATEGORY if CATEGORY in asset_names() else None)
    size = recipe.forward.config(request.seed, priors).camera.size
    heads = HeadSet(request.split, request.count or recipe.heads, size)
    train_heads = HeadSet("train", recipe.train_heads, size)
    for each in (heads, train_heads):
        _ = each.seeds  # as many as there are
    methods = [BY_NUMBER[n] for n in request.rows if n not in (CONSTANT, AVERAGE)]
    forward = recipe.forward.config(request.seed, priors)
    rows = []

    def training(kind: TrainingKind) -> Training:
        before = training(TRAININGS[kind.start]) if kind.start else None
        teachers = tuple(training(TRAININGS[name]) for name in kind.teachers)
        return _training(kind, request, train_heads, weights, priors, before, teachers)

    def start(kind: TrainingKind) -> Training | Weights:
        if request.packaged and kind.packaged:
            return _packaged(kind.packaged, gan, forward)
        return training(kind)

    for method in methods:
        assert method.recipe is not None  # only those of CONSTANT and AVERAGE have none
        assert method.training is not None
        config = getattr(recipe, method.recipe).config(request.seed, priors, method.overrides)
        rows.append(Row(method, config, start(TRAININGS[method.training]), heads, weights))
    lpips = None if request.lpips is None else str(request.lpips.resolve())
    options = {
        "--seed": request.seed,
        "--packaged": request.packaged,
        "--priors": plain_digest(
            [forward.view_prior.model_dump(), forward.light_prior.model_dump()]
        ),
    }
    return Plan(heads, train_heads, tuple(rows), weights, priors, lpips, options)


def _packaged(name: str, gan: Gan, config: RunConfig) -> Weights:
    """Packaged networks, if they are there and fit."""
    if not asset_path(name, NETWORKS_FILE).is_file():
        raise UserError(
            f"No networks {name} come with this installation; leave out --packaged, or give "
            "--no-packaged with --quick, to train them."
        )
    networks = load_networks(name)
    check_networks(networks, gan, config.model_copy(update={"networks": networks.networks}))
    return Weights(name, networks.sha256)


def _training(
    kind: TrainingKind,
    request: Request,
    heads: HeadSet,
    gan: Weights,
    priors: str | None,
    start: Training | None,
    teachers: tuple[Training, ...],
) -> Training:
    recipe = request.recipe
    if kind.recipe == "pretrain":
        config = recipe.pretrain.config(request.seed, priors, kind.overrides)
        return Training(kind, config, heads, recipe.pretrain.heads, gan)
    if kind.recipe in ("finetune", "teach"):
        assert start is not None  # the kinds say which
        settings = getattr(recipe, kind.recipe).settings(request.seed, priors, kind.overrides)
        settings |= {"networks": start.config.networks}
    else:
        settings = getattr(recipe, kind.recipe) | kind.overrides
        settings |= {"method": kind.recipe, "seed": request.seed}
    settings |= {"camera": {"size": heads.size}}
    # Supervised networks never meet the GAN; the others compare images by its features.
    features = None if kind.recipe == "supervised" else gan
    return Training(
        kind, baseline_config(settings), heads, gan=features, start=start, teachers=teachers
    )
