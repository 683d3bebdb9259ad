"""Frames in and out of files: probe, decode, write. The only room that knows codecs."""
