from .diagnosis import Diagnosis as Diagnosis
from .diagnosis import diagnose as diagnose
from .kernels import Kernel as Kernel
from .kernels import Kernels as Kernels
from .limits import Limits as Limits
from .limits import read_limits as read_limits
from .system import System as System
