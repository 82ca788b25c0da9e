"""Turned and relit heads held against their true renderings: the paper's image manipulations."""
