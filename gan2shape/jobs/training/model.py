"""Make a model from images alone: a GAN, priors, jointly trained networks, finetuned networks.

The folder of the model also holds `parts/`, with a work directory for each part that is trained:
`gan/`, `priors/`, `networks/` and `finetune/`. What is done is skipped when the same command is
given again, and a part that was made elsewhere can be brought.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from gan2shape.jobs.gan.samples import convert
from gan2shape.jobs.inputs.scan import scan
from gan2shape.jobs.progress import Note, Show
from gan2shape.jobs.training.gan import GanTraining, train_gan
from gan2shape.jobs.training.joint import JOINT, JointTraining, train_joint
from gan2shape.jobs.training.networks import (
    NetworkTraining,
    inherited_settings,
    train_networks,
)
from gan2shape.jobs.training.priors import PRIORS, PriorsEstimation, find_priors
from gan2shape.jobs.training.processes import plan_compute
from gan2shape.jobs.training.training_set import INVERSION, TrainingImages
from gan2shape.jobs.training.workdir import Cache, held, read_log, read_seconds
from gan2shape.jobs.weights.files import file_digest
from gan2shape.jobs.weights.model import write_model
from gan2shape.jobs.weights.networks_file import load_networks
from gan2shape.jobs.weights.stylegan2_file import load_gan
from gan2shape.pipeline.reconstruct import iterations_total
from gan2shape.schemas.errors import UserError
from gan2shape.schemas.gan_training import (
    GanTrainingConfig,
    default_channels,
    training_config,
)
from gan2shape.schemas.load import load_priors, load_settings, nested
from gan2shape.schemas.network_training import FinetuneConfig, baseline_config, finetune_settings
from gan2shape.schemas.packaged import GAN_FILE, JOINT_FILE, NETWORKS_FILE, asset_path
from gan2shape.schemas.settings import RunConfig

FOLDER = "parts"
GAN, NETWORKS, FINETUNE = "gan", "networks", "finetune"
PARTS = (GAN, PRIORS, NETWORKS, FINETUNE)
"""In the order in which they are made."""
RECIPES = {PRIORS: "priors", NETWORKS: "joint", FINETUNE: "finetune"}
LIMITS = {PRIORS: 128, NETWORKS: 256}
"""How many images these parts take unless the budget says otherwise."""
ROUNDS = 6
SECONDS = {
    "GAN image": 0.12,
    f"{PRIORS} iteration": 0.2,
    f"{NETWORKS} iteration": 0.9,
    "inverted image": 0.02,
    f"{FINETUNE} image": 0.05,
}
"""What a part takes on one core at 64 pixels, for the time to go: measured paces correct it."""


@dataclass(frozen=True)
class ModelTraining:
    """What the making of a model is asked for."""

    images: str
    out: Path
    category: str
    size: int | None = None
    """Width and height in pixels. Unless given, those of the brought GAN or of the category."""
    gan: str | None = None
    """A GAN that is brought: a file, or a packaged name."""
    priors: str | None = None
    """Priors that are brought, likewise."""
    networks: str | None = None
    """Jointly trained networks that are brought, likewise."""
    lpips: Path | None = None
    """VGG16-LPIPS weights for perceptual losses, in place of the discriminator's features."""
    masks: str | None = None
    """Object masks for the images, in a folder."""
    budgets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Changes of the parts' settings, by the parts' names and dotted keys. Priors and networks also
    have `limit`, how many images they take, and priors `rounds`."""
    device: str = "auto"
    threads: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class _Plan:
    """The settings of the parts."""

    gan: GanTrainingConfig | None
    """None where a GAN is brought."""
    size: int
    rounds: int
    limits: dict[str, int]
    finetune: dict[str, Any]
    """Settings of the finetuning itself."""
    run: Callable[[str, str | None], RunConfig]
    """The settings of a part that trains as runs do, with these priors."""


def train_model(request: ModelTraining, show: Show, note: Note) -> Path:
    """Make the parts that are missing, then write the model; returns its folder.

    Interrupted, the same call goes on. Raises `UserError` for what the user can put right.
    """
    plan = _plan(request)
    folder = request.out / FOLDER
    overall = _Overall(_costs(request, plan), show)
    compute = plan_compute(request.device, 1, request.threads)
    with held(folder):
        if plan.gan is not None:
            asked = GanTraining(request.images, folder / GAN, plan.gan, compute=compute)
            gan = str(train_gan(asked, overall.part(GAN), note))
        else:
            gan = _brought_gan(request, folder)
        priors = request.priors
        if priors is None:
            images = TrainingImages(request.images, request.masks, limit=plan.limits[PRIORS])
            config = plan.run(PRIORS, None)
            estimation = PriorsEstimation(
                images, gan, folder / PRIORS, config, plan.rounds, compute
            )
            priors = str(find_priors(estimation, overall.part(PRIORS), note))
        networks = request.networks
        if networks is None:
            images = TrainingImages(request.images, request.masks, limit=plan.limits[NETWORKS])
            joint = JointTraining(
                images,
                gan,
                folder / NETWORKS,
                plan.run(NETWORKS, priors),
                request.lpips,
                compute=plan_compute(request.device, None, request.threads),
            )
            networks = str(train_joint(joint, overall.part(NETWORKS), note))
        settings = finetune_settings(plan.run(FINETUNE, priors)) | plan.finetune
        tuning = NetworkTraining(
            request.images,
            folder / FINETUNE,
            baseline_config(settings | inherited_settings(networks)),
            networks=networks,
            gan=gan,
            lpips=request.lpips,
            compute=compute,
        )
        tuned = train_networks(tuning, overall.part(FINETUNE), note)
        _write(request, plan.size, gan, priors, networks, tuned)
    return request.out


def _plan(request: ModelTraining) -> _Plan:
    """Resolve the settings of all parts: mistakes are told before anything is made."""
    scan(request.images, masks=request.masks)
    budgets = {part: dict(request.budgets.get(part, {})) for part in PARTS}
    unknown = ", ".join(sorted(set(request.budgets) - set(PARTS)))
    if unknown:
        raise UserError(f"There is no part {unknown}; the parts are {', '.join(PARTS)}.")
    size = request.size or load_settings(request.category, RECIPES[PRIORS]).camera.size
    gan = None
    if request.gan is None:
        sizes = {"size": size, "channels": default_channels(size), "seed": request.seed}
        gan = training_config(sizes | nested(budgets[GAN]))
        size = gan.size
    else:
        given = load_gan(request.gan).generator.size
        if request.size not in (None, given):
            raise UserError(
                f"{request.gan} makes images of {given} pixels, not {request.size}; leave out "
                "--size."
            )
        size = given
    if request.networks is not None:
        load_networks(request.networks)
    limits = {part: int(budgets[part].pop("limit", LIMITS[part])) for part in LIMITS}
    rounds = int(budgets[PRIORS].pop("rounds", ROUNDS))
    fields = FinetuneConfig.model_fields
    finetune = {name: value for name, value in budgets[FINETUNE].items() if name in fields}

    def run(part: str, priors: str | None) -> RunConfig:
        masks = {} if request.masks is None or part == FINETUNE else {"mask": "given"}
        changes = {name: v for name, v in budgets[part].items() if name not in finetune}
        overrides = {"camera.size": size, "seed": request.seed, **masks, **changes}
        return load_settings(request.category, RECIPES[part], priors=priors, overrides=overrides)

    for part in RECIPES:
        run(part, request.priors if part != PRIORS else None)
    return _Plan(gan, size, rounds, limits, finetune, run)


def _brought_gan(request: ModelTraining, folder: Path) -> str:
    """The brought GAN in our own format, which networks are then trained for."""
    assert request.gan is not None
    path = asset_path(request.gan, GAN_FILE)
    if path.suffix == ".safetensors":
        return str(path)

    def load(place: Path) -> str:
        return str((place / GAN_FILE).resolve(strict=True))

    def make(place: Path) -> None:
        convert(str(path), place / GAN_FILE)

    return Cache(folder).get(GAN, file_digest(path), make, load)


def _costs(request: ModelTraining, plan: _Plan) -> dict[tuple[str, str], float]:
    """Seconds that the tasks of all parts may take, by part and task."""
    pixels = (plan.size / 64) ** 2
    costs: dict[tuple[str, str], float] = {}
    if plan.gan is not None:
        costs[GAN, "GAN"] = plan.gan.images * SECONDS["GAN image"] * pixels
    for part, task, brought in (
        (PRIORS, PRIORS, request.priors),
        (NETWORKS, JOINT, request.networks),
    ):
        if brought is None:
            config = plan.run(part, None)
            count = iterations_total(config, plan.limits[part])
            if part == PRIORS:
                count = count * plan.rounds // max(len(config.optimization.cycles), 1)
            seconds = SECONDS["inverted image"] * config.inversion.iterations * pixels
            costs[part, INVERSION] = plan.limits[part] * seconds
            costs[part, task] = count * SECONDS[f"{part} iteration"] * pixels
    images = plan.finetune.get("images", FinetuneConfig().images)
    costs[FINETUNE, FINETUNE] = images * SECONDS[f"{FINETUNE} image"] * pixels
    return costs


class _Overall:
    """Shows the parts' own progress, and how far the model is as a whole.

    The time to go comes from the `costs` of what is left, at the pace of what was done.
    """

    def __init__(self, costs: dict[tuple[str, str], float], show: Show) -> None:
        self.costs = costs
        self.show = show
        self.shares: dict[tuple[str, str], float] = dict.fromkeys(costs, 0.0)
        self.parts = list(dict.fromkeys(part for part, _ in costs))
        self.done_before: float | None = None
        self.start = time.monotonic()

    def part(self, name: str) -> Show:
        """The function that shows the progress of a part; the parts before it are done."""
        for part, task in self.costs:
            if self.parts.index(part) < self.parts.index(name):
                self.shares[part, task] = 1.0

        def show(
            task: str, stage: str, done: float, total: float, *more: Any, **options: Any
        ) -> None:
            self.show(task, stage, done, total, *more, **options)
            self._tell(name, task, done / max(total, 1))

        return show

    def _tell(self, part: str, task: str, share: float) -> None:
        if task != INVERSION and (part, INVERSION) in self.shares:
            self.shares[part, INVERSION] = 1.0  # or there was nothing to invert
        self.shares[part, task] = share
        total = sum(self.costs.values())
        done = sum(cost * self.shares[key] for key, cost in self.costs.items())
        if self.done_before is None:
            self.done_before, self.start = done, time.monotonic()
        gained = done - self.done_before
        pace = (time.monotonic() - self.start) / gained if gained > 0 else None
        left = None if pace is None else pace * (total - done)
        number = self.parts.index(part) + 1
        words = f"model, part {number} of {len(self.parts)} ({part})"
        self.show("model", words, done / total, 1.0, left)


def _write(
    request: ModelTraining, size: int, gan: str, priors: str, networks: str, tuned: Path
) -> None:
    """Copy the weights to the model's folder, and say in model.yaml what they are."""
    folder = request.out / FOLDER
    files = {
        GAN_FILE: Path(gan),
        JOINT_FILE: asset_path(networks, NETWORKS_FILE),
        NETWORKS_FILE: tuned,
    }
    quality = [row["quality"]["mean"] for row in read_log(folder / GAN) if "quality" in row]
    write_model(
        request.out,
        name=request.out.name,
        category=request.category,
        recipe="forward",
        size=size,
        files=files,
        priors=load_priors(priors),
        provenance={
            "images": request.images,
            "seed": request.seed,
            "version": metadata.version("gan2shape"),
            "brought": {
                name: value
                for name in (GAN, PRIORS, NETWORKS)
                if (value := getattr(request, name)) is not None
            },
            "seconds": {
                part: round(read_seconds(folder / part))
                for part in PARTS
                if (folder / part).exists()
            },
        },
        figures={"sliced_wasserstein": quality[-1]} if quality else {},
    )
