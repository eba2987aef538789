from .batching import batchify as batchify
from .batching import get_batch as get_batch
from .corpus import Corpus as Corpus
from .corpus import Dictionary as Dictionary
from .streams import Loss as Loss
from .streams import Stream as Stream
from .streams import next_words as next_words
from .streams import summed_cross_entropy as summed_cross_entropy
