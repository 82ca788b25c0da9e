"""The scene: camera, geometry, shading, shapes, rendering, metrics of depth."""
