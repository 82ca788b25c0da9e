"""Training on many images: joint training, finetuning, priors, and the baselines."""
