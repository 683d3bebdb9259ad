"""Licences of models as the Hugging Face hub stores them: an identifier from its list, or a name."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass

# https://huggingface.co/docs/hub/repositories-licenses; the hub rejects other identifiers.
_LISTED = """
    afl-3.0 agpl-3.0 apache-2.0 apple-amlr apple-ascl artistic-2.0 bigcode-openrail-m bigscience-bloom-rail-1.0
    bigscience-openrail-m bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear bsl-1.0 c-uda cc cc-by-2.0 cc-by-2.5
    cc-by-3.0 cc-by-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0
    cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cc-by-nd-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc0-1.0 cdla-permissive-1.0
    cdla-permissive-2.0 cdla-sharing-1.0 creativeml-openrail-m deepfloyd-if-license ecl-2.0 epl-1.0 epl-2.0
    etalab-2.0 eupl-1.1 eupl-1.2 fair-noncommercial-research-license gemma gfdl gpl gpl-2.0 gpl-3.0
    grok2-community h-research intel-research isc lgpl lgpl-2.1 lgpl-3.0 lgpl-lr llama2 llama3 llama3.1 llama3.2
    llama3.3 llama4 lppl-1.3c mit mpl-2.0 ms-pl ncsa odbl odc-by ofl-1.1 openmdw-1.0 openrail openrail++ osl-3.0
    pddl postgresql unknown unlicense wtfpl zlib
"""
HUB_LICENCES = frozenset(_LISTED.split())
"""Licence identifiers that the hub accepts."""


@dataclass(frozen=True, kw_only=True)
class Licence:
    """A licence.

    Attributes:
        identifier: identifier from the hub's list; "other" for a licence that is not listed.
        name: name of a licence that is not listed; None otherwise.
    """

    identifier: str
    name: str | None = None

    def __str__(self) -> str:
        return self.name or self.identifier

    @property
    def hub_name(self) -> str | None:
        """The name in the form that the hub accepts: lower-case letters, digits, dots and dashes."""
        return None if self.name is None else re.sub(r"[^a-z0-9.]+", "-", self.name.lower()).strip("-") or "other"


def parse_licence(text: str) -> Licence:
    """Parse a licence: an identifier from the hub's list, in any case, or the name of another licence.

    `other:NAME` is always a name, even if it resembles an identifier.

    Raises:
        ValueError: the text is empty, or so similar to an identifier that it is probably a typo.
    """
    known = "-".join(text.lower().split())
    if known in HUB_LICENCES:
        return Licence(identifier=known)
    prefix, colon, rest = text.partition(":")
    is_other = colon and prefix.strip().lower() == "other"
    name = " ".join((rest if is_other else text).split())
    if name.lower() in ("", "other", "none"):
        raise ValueError(f"--licence {text!r} is not a licence; pass an identifier such as apache-2.0, or a name")
    near = difflib.get_close_matches(known, sorted(HUB_LICENCES), n=1, cutoff=0.7)
    if near and not is_other:
        raise ValueError(
            f"--licence {text!r} is not in the hub's list; did you mean {near[0]}? To use an unlisted licence, pass"
            f" other:{name}"
        )
    return Licence(identifier="other", name=name)
