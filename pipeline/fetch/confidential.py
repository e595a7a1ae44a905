"""Secrets: taken from the environment, never shown.

Whatever is written or said of an address goes through `public_url` first: it drops what stands before the host, all of
the query, and every secret that this process has been given.
"""

from __future__ import annotations

import os
import re
from urllib.parse import urlsplit, urlunsplit

from pipeline.fetch.errors import SecretMissingError

HIDDEN = "***"
_ADDRESS = re.compile(r"\w+://[^\s'\"<>()]*[^\s'\"<>().,:;]")
_known: set[str] = set()


def secret(name: str, *, wanted_by: str) -> str:
    """The value of an environment variable, remembered so that `public` can hide it.

    Raises:
        SecretMissingError: it is not set.
    """
    value = os.environ.get(name, "")
    if not value:
        raise SecretMissingError(f"{wanted_by}: the environment variable {name} is not set; export it and run again")
    _known.add(value)
    return value


def public(text: str) -> str:
    """The text without any secret that was given."""
    for value in sorted(_known, key=len, reverse=True):
        text = text.replace(value, HIDDEN)
    return text


def public_text(text: str) -> str:
    """A message as it may be shown: each address in it as by `public_url`, and no secret."""
    return public(_ADDRESS.sub(lambda found: public_url(found[0]), text))


def public_url(url: str) -> str:
    """The address as it may be written down: without user, query and fragment (signatures, keys) and secrets."""
    parts = urlsplit(url)
    if not parts.scheme or not parts.netloc:
        return public(url)
    host = parts.netloc.rsplit("@", 1)[-1]
    return public(urlunsplit((parts.scheme, host, parts.path, "", "")))
