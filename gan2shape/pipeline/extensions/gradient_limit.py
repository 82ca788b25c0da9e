"""A limit on the gradient of depth (setting `gradient_limit`).

Triangles seen edge-on have gradients hundreds of times the usual. A few of them would otherwise
decide the update.
"""

from __future__ import annotations

from torch import Tensor


def with_limited_gradient(depth: Tensor, limit: float) -> Tensor:
    """Return depth (B, S, S), whose gradient will be clamped in every pixel.

    The bound is `limit` times the mean absolute gradient of that image. Depth that needs no
    gradient is left alone.
    """

    def clamp(gradient: Tensor) -> Tensor:
        bound = limit * gradient.abs().mean((1, 2), keepdim=True)
        return gradient.clamp(-bound, bound)

    if limit and depth.requires_grad:
        depth.register_hook(clamp)
    return depth
