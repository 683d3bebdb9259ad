"""The file that lets diffusers' own `DiffusionPipeline` open a pipeline folder: a few lines that name our class."""

from __future__ import annotations

CODE_FILE = "pipeline.py"
"""Name that diffusers knows; see `code_of`."""

OPENING_ARGUMENTS = 'custom_pipeline="pipeline", trust_remote_code=True'
"""Arguments of `DiffusionPipeline.from_pretrained` that make it run this file."""


def code_of(class_name: str) -> str:
    """Return the text of `CODE_FILE` for a pipeline class of this package.

    diffusers looks a pipeline's class up in its own namespace, where ours are not, unless the folder brings code. The
    code only imports the class, so opening the folder needs this package. Its name there is the same for every class:
    diffusers runs the files of all local folders in one module, which must end up with one pipeline class.
    """
    return (
        f'"""Open this folder with diffusers: DiffusionPipeline.from_pretrained(FOLDER, {OPENING_ARGUMENTS})\n\n'
        'The model\'s code is in the package videocrafter, which must be installed.\n"""\n\n'
        f"from videocrafter import {class_name} as Pipeline\n\n"
        '__all__ = ["Pipeline"]\n'
    )
