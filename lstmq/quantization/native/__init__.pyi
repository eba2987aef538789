from .file import is_native_file as is_native_file
from .file import load_native as load_native
from .file import save_native as save_native
from .library import missing_kernels as missing_kernels
from .library import selected_isa as selected_isa
from .model import NativeModel as NativeModel
from .model import quantize_native as quantize_native
