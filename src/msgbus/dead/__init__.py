"""Dead letters: look at them, send them back to where they came from, throw them away. For every broker."""

from msgbus.dead.letters import DeadLetter, Failure, Redriven
from msgbus.dead.view import DeadLetters, Target

__all__ = ["DeadLetter", "DeadLetters", "Failure", "Redriven", "Target"]
