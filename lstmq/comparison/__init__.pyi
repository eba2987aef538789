from .fidelity import Fidelity as Fidelity
from .fidelity import compare_predictions as compare_predictions
from .machine import INSTRUCTION_SETS as INSTRUCTION_SETS
from .machine import describe_machine as describe_machine
from .paired import ComparisonRow as ComparisonRow
from .paired import Quartiles as Quartiles
from .paired import clock as clock
from .paired import compare as compare
