"""Where the work is done: Dask workers."""
