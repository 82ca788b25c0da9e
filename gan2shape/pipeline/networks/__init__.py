"""The networks of one image set: depth, albedo, view, light and latent offset."""
