"""Prediction at StyleGAN2s, score and convert them."""
