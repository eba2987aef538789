"""The regression gate: a session of timed processes, and the verdicts on it."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
