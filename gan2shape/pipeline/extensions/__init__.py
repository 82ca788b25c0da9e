"""What is not in the paper: one module each, each switched by one setting."""
