"""Every file of weights that is opened: checkpoints, networks, feature networks, the head model."""
