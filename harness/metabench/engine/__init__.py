"""The engine: ordinary torch modules run over a whole batch of tasks at once."""

from metabench.engine.lift import Lifted, lift

__all__ = ["Lifted", "lift"]
