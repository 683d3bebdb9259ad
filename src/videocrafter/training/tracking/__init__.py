"""Reports on runs: logs, trackers, terminal views and comparisons."""
