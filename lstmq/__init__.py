"""An LSTM language model in float32 and in int8, and the regression gate for both."""

import lazy_loader

__version__ = "0.2.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
