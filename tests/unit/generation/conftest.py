"""The tiny models and the command line: what a run records is tested through both."""

from tests.unit.cli.conftest import cli, i2v_folder, make, t2v_folder

__all__ = ["cli", "i2v_folder", "make", "t2v_folder"]
