"""The web process loads no deep-learning library."""

import subprocess
import sys

CODE = """
import sys
from videocrafter.web.server import serve
heavy = {"torch", "diffusers", "transformers", "gradio"} & set(sys.modules)
assert not heavy, heavy
"""


def test_the_server_imports_no_torch():
    subprocess.run([sys.executable, "-c", CODE], check=True)
