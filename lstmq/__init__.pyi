from .comparison import compare as compare
from .errors import QuantizationError as QuantizationError
from .model import LSTMModel as LSTMModel
from .model import ModelConfig as ModelConfig
from .model import evaluate as evaluate
from .model import generate as generate
from .model import load_checkpoint as load_checkpoint
from .model import model_size as model_size
from .model import perplexity as perplexity
from .model import repackage_hidden as repackage_hidden
from .model import save_checkpoint as save_checkpoint
from .quantization import SCHEMES as SCHEMES
from .quantization import load_int8 as load_int8
from .quantization import quantize as quantize
from .quantization import save_int8 as save_int8
from .text import Corpus as Corpus
from .text import Dictionary as Dictionary
from .text import Stream as Stream
from .text import batchify as batchify
from .text import get_batch as get_batch
from .text import next_words as next_words
from .training import TrainConfig as TrainConfig
from .training import Trainer as Trainer
from .workload import Subject as Subject
from .workload import Workload as Workload
from .workload import load_workload as load_workload

__version__: str
