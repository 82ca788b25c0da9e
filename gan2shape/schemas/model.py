"""What `model.yaml` says of a model: all that has been learnt about a category, in one folder."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from gan2shape.schemas.base import Settings
from gan2shape.schemas.settings import LightPriorConfig, ViewPriorConfig

MODEL_FORMAT: Literal["gan2shape.model/1"] = "gan2shape.model/1"
CATEGORY_FILE = "category.yaml"
"""In a model whose category does not come with the package."""
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class ModelFile(Settings):
    """The content of `model.yaml`."""

    format: Literal["gan2shape.model/1"] = MODEL_FORMAT
    name: str = Field(min_length=1, max_length=100)
    category: str
    """Name of a packaged category, or of the one in the model's `category.yaml`."""
    recipe: str
    """The recipe that suits the model: what runs take unless they name another one."""
    size: int = Field(ge=32, le=1024)
    """Width and height of the images that it was trained on, in pixels."""
    files: dict[str, Digest]
    """Names of its files to their SHA-256."""
    view_prior: ViewPriorConfig | None = None
    light_prior: LightPriorConfig | None = None
    """The measured spread of views and lights, which goes before the category's."""
    provenance: dict[str, Any] = Field(default_factory=dict)
    """Where its parts come from, for people."""
    figures: dict[str, Any] = Field(default_factory=dict)
    """How good it is, for people."""

    def settings(self) -> dict[str, Any]:
        """The settings that it brings: camera size and priors."""
        priors = self.model_dump(
            include={"view_prior", "light_prior"}, exclude_unset=True, exclude_none=True
        )
        return {"camera": {"size": self.size}} | priors
