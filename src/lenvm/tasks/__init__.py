"""Tasks: where prompts come from, what their right answers are, and how completions are graded."""

from lenvm.tasks.base import AbstractTask, Part, TaskPrompt, in_part

__all__ = ["AbstractTask", "Part", "TaskPrompt", "in_part"]
