"""Trainings on a folder of images, each in a directory of its own."""
