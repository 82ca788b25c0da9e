"""The rows of the paper's table and ours, and the trainings that they start from, as data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from gan2shape.schemas.errors import UserError

Symmetry = Literal["Y", "N", "/"]
CONSTANT, AVERAGE = 2, 3
"""Numbers of the rows that need no run: they are there in every table."""


@dataclass(frozen=True)
class Scores:
    """SIDE, plain, and MAD in degrees."""

    side: float
    mad_degrees: float


@dataclass(frozen=True)
class TrainingKind:
    """Networks that rows start from, and what sets their training apart from its kind's recipe."""

    name: str
    recipe: Literal["supervised", "unsup3d", "pretrain", "finetune", "teach"]
    overrides: dict[str, Any] = field(default_factory=dict)
    start: str | None = None
    """The training whose networks it goes on from."""
    teachers: tuple[str, ...] = ()
    """Trainings whose networks' shapes it learns besides."""
    packaged: str | None = None
    """The packaged networks that it left, as `load_networks` takes them."""


NO_REGULARISATION = {"latent.regularize": False}
NO_SYMMETRY = {"optimization.symmetry_step1": "never", "optimization.symmetry_step3": "never"}
KEEP_RELIEF = {"optimization.calibrate_yaw": True}
"""Keeps shapes as deep as they are when groups of heads are refined, as symmetry does elsewhere."""

TRAININGS = {
    kind.name: kind
    for kind in (
        TrainingKind("supervised", "supervised"),
        TrainingKind("unsup3d", "unsup3d", {"symmetric": True}),
        TrainingKind("unsup3d-no-symmetry", "unsup3d", {"symmetric": False}),
        TrainingKind("pretrain", "pretrain", packaged="heads64/joint.safetensors"),
        TrainingKind("finetune", "finetune", start="pretrain"),
        TrainingKind("teach", "teach", start="finetune", teachers=("unsup3d",), packaged="heads64"),
        TrainingKind("pretrain-no-regularisation", "pretrain", NO_REGULARISATION),
        TrainingKind("pretrain-no-symmetry", "pretrain", NO_SYMMETRY),
    )
}


@dataclass(frozen=True)
class Method:
    """A row of the table."""

    number: int
    name: str
    slug: str
    symmetry: Symmetry
    paper: Scores | None = None
    """What the paper prints for it, on its own faces."""
    training: str | None = None
    """The one of `TRAININGS` whose networks the run starts from."""
    recipe: Literal["forward", "refine", "tune"] | None = None
    """Where the run's settings come from; `None` for rows that need no run."""
    overrides: dict[str, Any] = field(default_factory=dict)
    short: str = ""
    """For charts, where the name is too long."""

    @property
    def folder(self) -> str:
        """Name of its run directory."""
        return f"{self.number:02d}-{self.slug}"

    @property
    def label(self) -> str:
        """Number, name and symmetry in one phrase."""
        symmetry = {"Y": ", symmetric", "N": ", no symmetry", "/": ""}[self.symmetry]
        return f"{self.number} {self.name}{symmetry if self.shared_name else ''}"

    @property
    def short_label(self) -> str:
        """The same for charts."""
        return f"{self.number} {self.short}" if self.short else self.label

    @property
    def shared_name(self) -> bool:
        """Whether symmetry alone tells it from another row."""
        return sum(other.name == self.name for other in METHODS) > 1


METHODS = (
    Method(1, "Supervised", "supervised", "N", Scores(0.00419, 10.83), "supervised", "forward"),
    Method(CONSTANT, "Constant null depth", "constant", "/", Scores(0.02723, 43.22)),
    Method(
        AVERAGE,
        "Average ground-truth depth",
        "average",
        "/",
        Scores(0.01978, 22.99),
        short="Average depth",
    ),
    Method(4, "Unsup3d", "unsup3d", "Y", Scores(0.00807, 16.34), "unsup3d", "forward"),
    Method(
        *(5, "GAN2Shape without latent regularisation", "no-regularisation", "Y"),
        *(Scores(0.00925, 16.42), "pretrain-no-regularisation", "refine", NO_REGULARISATION),
        short="GAN2Shape, unregularised",
    ),
    Method(6, "GAN2Shape", "gan2shape", "Y", Scores(0.00756, 14.81), "pretrain", "refine"),
    Method(
        *(7, "Unsup3d", "unsup3d-no-symmetry", "N"),
        *(Scores(0.01334, 33.79), "unsup3d-no-symmetry", "forward"),
    ),
    Method(
        *(8, "GAN2Shape", "gan2shape-no-symmetry", "N"),
        *(Scores(0.01023, 17.09), "pretrain-no-symmetry", "refine"),
        NO_SYMMETRY | KEEP_RELIEF,
    ),
    Method(
        *(9, "Pretrained networks, one forward pass", "forward", "Y"),
        *(None, "pretrain", "forward"),
        short="One forward pass",
    ),
    Method(10, "Our best", "best", "Y", None, "teach", "tune"),
)
BY_NUMBER = {method.number: method for method in METHODS}


def paper_ratio(method: Method) -> Scores | None:
    """The paper's scores as shares of its constant row."""
    constant = BY_NUMBER[CONSTANT].paper
    if method.paper is None or constant is None:
        return None
    return Scores(
        method.paper.side / constant.side, method.paper.mad_degrees / constant.mad_degrees
    )


def parse_rows(text: str) -> tuple[int, ...]:
    """Read "1,4,6-8" as row numbers, in order. Raises `UserError` for anything else."""
    wanted: set[int] = set()
    try:
        for part in text.split(","):
            first, dash, last = part.partition("-")
            numbers = range(int(first), int(last if dash else first) + 1)
            if not numbers or not set(numbers) <= set(BY_NUMBER):
                raise ValueError(part)
            wanted |= set(numbers)
    except ValueError:
        raise UserError(
            f"--rows {text!r} are no rows of the table; write numbers from 1 to {len(METHODS)}, "
            "as in 1,4,6-8."
        ) from None
    return tuple(sorted(wanted))
