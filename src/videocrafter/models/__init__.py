"""The networks, and nothing but networks: no files, no devices but their own."""
