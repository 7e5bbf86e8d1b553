"""Predictors of completion length that a value model has to beat."""

from lenvm.evaluation.prompt_boundary.predictors.base import AbstractLengthPredictor, Floats, PromptTable
from lenvm.evaluation.prompt_boundary.predictors.constant import BestConstant, best_constant
from lenvm.evaluation.prompt_boundary.predictors.embedding import MeanState, PromptEmbeddingRegression, TextEncoder
from lenvm.evaluation.prompt_boundary.predictors.hidden_state import GeneratorStates, HiddenStateProbe
from lenvm.evaluation.prompt_boundary.predictors.prompt_length import PromptLengthLine
from lenvm.evaluation.prompt_boundary.predictors.remaining_length import RemainingLengthRegressor
from lenvm.evaluation.prompt_boundary.predictors.tfidf import TfidfRidge

__all__ = [
    "AbstractLengthPredictor",
    "BestConstant",
    "Floats",
    "GeneratorStates",
    "HiddenStateProbe",
    "MeanState",
    "PromptEmbeddingRegression",
    "PromptLengthLine",
    "PromptTable",
    "RemainingLengthRegressor",
    "TextEncoder",
    "TfidfRidge",
    "best_constant",
]
