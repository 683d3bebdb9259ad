"""The process that makes the videos. Only this part of the studio loads a model."""
