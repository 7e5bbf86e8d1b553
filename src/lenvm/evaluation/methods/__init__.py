"""Ways to write a completion of a wanted length: rules with a value model, and what they have to beat."""

from lenvm.evaluation.methods.base import AbstractMethod, Task
from lenvm.evaluation.methods.baselines import BestOfMany, ForcedLength, LengthPenalty, Plain
from lenvm.evaluation.methods.by_constraint import ByConstraint
from lenvm.evaluation.methods.guided import Guided, takes_target, with_target
from lenvm.evaluation.methods.prompting import AskForLength

__all__ = [
    "AbstractMethod",
    "AskForLength",
    "BestOfMany",
    "ByConstraint",
    "ForcedLength",
    "Guided",
    "LengthPenalty",
    "Plain",
    "Task",
    "takes_target",
    "with_target",
]
