"""The real task: train VideoUNet on clips and images from files."""
