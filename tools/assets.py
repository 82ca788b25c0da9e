"""assets.py MADE MODEL: put what `make assets` trained in MADE into the packaged MODEL."""

from __future__ import annotations

import sys
from pathlib import Path

import yaml

from gan2shape.jobs.weights.model import write_model
from gan2shape.schemas.packaged import GAN_FILE, JOINT_FILE, NETWORKS_FILE


def main(made: Path, model: Path) -> None:
    """Write the model. Its figures are to be measured again, by hand."""
    priors = yaml.safe_load((made / "priors" / "priors.yaml").read_text())
    write_model(
        model,
        name=model.name,
        category="heads",
        recipe="forward",
        size=64,
        files={
            GAN_FILE: made / "heads64.safetensors",
            NETWORKS_FILE: made / "networks" / NETWORKS_FILE,
            JOINT_FILE: made / "joint" / NETWORKS_FILE,
        },
        provenance={"priors": priors.pop("provenance"), "card": "MODEL_CARD.md"},
        priors=priors,
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
