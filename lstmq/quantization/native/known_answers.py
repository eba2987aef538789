"""Checks the bits of a kernel before it is first used.

``csrc/known_answers.c`` computes small products, steps and losses with a kernel. Every kernel must return the same bits
as the reference, so the digests of these bits are known. The check takes less than a millisecond.
"""

import ctypes
import platform
import warnings

# In the order in which lstmq_known_answers writes them. The tests compute them with the reference.
KNOWN_DIGESTS = {
    "rows": 0xF3569F0325298D4B,
    "products": 0x91E6F2ACE96C5202,
    "steps": 0x968FF45F6B6EBCC2,
    "losses": 0x3336C40725D13B90,
}


def wrong_answers(library: ctypes.CDLL, index: int) -> dict[str, int]:
    """Return the stages whose bits are wrong, with the digests that were found instead of the known ones.

    Args:
        library: the kernels.
        index: the kernel's index in ``KERNEL_ISAS``. It must be one that can run here.
    """
    digests = (ctypes.c_uint64 * len(KNOWN_DIGESTS))()
    library.lstmq_known_answers(index, digests)
    found = dict(zip(KNOWN_DIGESTS, digests, strict=True))
    return {stage: digest for stage, digest in found.items() if digest != KNOWN_DIGESTS[stage]}


def gives_known_answers(library: ctypes.CDLL, index: int, isa: str) -> bool:
    """Return whether all bits of a kernel are right. If not, warn, and say what to report."""
    wrong = wrong_answers(library, index)
    if wrong:
        library.lstmq_compiler.restype = ctypes.c_char_p
        stages = ", ".join(f"{stage} {digest:016x}" for stage, digest in wrong.items())
        warnings.warn(
            f"int8-native leaves out its kernel {isa}, which computes wrong bits here. Please report this line and the "
            f"name of your processor: {isa}; {stages}; {platform.platform()}; {library.lstmq_compiler().decode()}",
            RuntimeWarning,
            stacklevel=2,
        )
    return not wrong
