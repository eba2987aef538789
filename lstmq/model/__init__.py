"""The LSTM language model: its shape, files and size, the loss of a text, and generated text."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
