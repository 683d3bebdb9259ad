"""Read and write videos and images. All code that knows codecs is here."""
