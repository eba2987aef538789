"""Schemes: a float32 model in, a smaller and faster one out."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
