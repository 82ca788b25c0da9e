"""Training of StyleGAN2, and how good it is."""
