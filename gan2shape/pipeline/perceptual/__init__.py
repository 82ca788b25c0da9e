"""Perceptual distances of images, and the inversion that minimises them."""
