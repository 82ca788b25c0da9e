"""Another weight for the background (setting `background_weight` of a cycle).

In the paper a plain background counts as much as the object: it tells where the outline is. Once
that is known it does harm, since shading explains dark pixels beside the outline by slopes.
"""

from __future__ import annotations

from torch import Tensor

from gan2shape.pipeline.scene.masks import object_masks


def sample_masks(images: Tensor, threshold: float, background: float) -> Tensor:
    """Weights (B, S, S) of pixels of images (B, 3, S, S) in [-1, 1] before a plain background.

    They are 1 on the object and `background` elsewhere; `threshold` is that of `background_mask`.
    """
    objects = object_masks(images, threshold).float()
    return objects + background * (1 - objects)
