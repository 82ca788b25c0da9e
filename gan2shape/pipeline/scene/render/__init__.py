"""Rendering of depth grids: `warp`, `render_depth`, `resample`."""

from gan2shape.pipeline.scene.render.warp import Backend, Rendering, render_depth, resample, warp

__all__ = ["Backend", "Rendering", "render_depth", "resample", "warp"]
