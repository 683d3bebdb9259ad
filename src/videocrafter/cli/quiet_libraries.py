"""Keep progress bars and log messages of diffusers and transformers out of the command line's output."""

from __future__ import annotations

import logging


def silence_libraries() -> None:
    """Disable the libraries' progress bars and all their log messages except errors."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
    for name in ("diffusers", "transformers"):
        logging.getLogger(name).setLevel(logging.ERROR)
