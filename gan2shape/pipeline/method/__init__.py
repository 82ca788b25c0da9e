"""GAN2Shape as published (Pan et al., ICLR 2021)."""
