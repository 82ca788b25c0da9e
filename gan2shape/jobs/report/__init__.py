"""Reports of runs: page, charts, pictures, tables."""
