"""The int8-native scheme: int8 with the C kernels of this package. The public names are in ``__init__.pyi``."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
