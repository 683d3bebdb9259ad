"""Raw videos to training shards: scan, select, clip, caption, shard."""
