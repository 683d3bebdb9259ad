"""From a prompt, or an image and a prompt, to a video."""
