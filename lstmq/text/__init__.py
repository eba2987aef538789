"""Reads text as word ids, and cuts it into columns and windows."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
