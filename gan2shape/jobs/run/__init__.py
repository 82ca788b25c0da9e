"""A run: planned, started, done shard by shard, stored."""
