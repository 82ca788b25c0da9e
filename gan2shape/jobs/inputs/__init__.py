"""What goes into a run: images, masks, ground truth, latents."""
