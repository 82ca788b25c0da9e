"""The paper's table on our own heads: every row trained, run, scored and compared."""
