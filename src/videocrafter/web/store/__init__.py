"""Jobs, videos and uploads in SQLite."""
