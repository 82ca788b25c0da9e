"""Every file of weights that is opened or written: models, and their parts."""
