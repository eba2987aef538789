from .export import Measurement as Measurement
from .export import Metadata as Metadata
from .export import OnnxFile as OnnxFile
from .export import read_onnx as read_onnx
from .export import write_onnx as write_onnx
from .session import OnnxModel as OnnxModel
from .session import missing_packages as missing_packages
from .session import to_onnx_model as to_onnx_model
