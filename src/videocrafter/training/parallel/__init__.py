"""Multiple processes, sharded weights, numeric precision and memory."""
