"""Everything that reports on a run: logs, trackers, terminal views, comparisons."""
