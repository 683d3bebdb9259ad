"""Keep progress bars and log lines of diffusers and transformers out of our own output."""

from __future__ import annotations

import logging


def silence_libraries() -> None:
    """From now on these libraries report errors only."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
    for name in ("diffusers", "transformers"):
        logging.getLogger(name).setLevel(logging.ERROR)
