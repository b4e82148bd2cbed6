"""The page: upload the views of a study, see its score, what it rests on, where it looks, and similar cases.

It listens on this machine alone unless another host is given, sends nothing anywhere, and deletes uploads after a
minute.
"""

from __future__ import annotations

from .layout import page
from .reader import MAX_VIEWS, Reader
from .reading import Reading, View
from .server import serve

__all__ = ["MAX_VIEWS", "Reader", "Reading", "View", "page", "serve"]
