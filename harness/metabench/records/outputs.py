"""What learners predict and what metrics take, and which of the two fit together. No torch here.

A learner's `outputs` say what its predictions are:

- "log-probabilities": of the classes, natural logarithms, whose exponentials sum to one over the classes;
- "logits": class scores whose softmax is the probability that the learner means, as in its training loss;
- "scores": class scores that only rank the classes, such as distances that no loss ever scaled;
- "values": regression values.

A metric's `needs` say what its `score` is given:

- "classes": the predicted class numbers [T, q], -1 where a score of the query is NaN;
- "probabilities": log-probabilities [T, q, ways];
- "scores": class scores [T, q, ways]: log-probabilities where the learner has them, else its own scores;
- "values": regression values [T, q, outputs].
"""

from collections.abc import Mapping
from typing import Literal, get_args

Outputs = Literal["log-probabilities", "logits", "scores", "values"]
Needs = Literal["classes", "probabilities", "scores", "values"]
DataKind = Literal["classification", "regression"]

OUTPUTS: tuple[Outputs, ...] = get_args(Outputs)
NEEDS: tuple[Needs, ...] = get_args(Needs)

_PROBABILITIES: frozenset[Outputs] = frozenset({"log-probabilities", "logits"})
_CLASS_SCORES: frozenset[Outputs] = _PROBABILITIES | {"scores"}
SERVED_BY: Mapping[Needs, frozenset[Outputs]] = {
    "classes": _CLASS_SCORES,
    "probabilities": _PROBABILITIES,
    "scores": _CLASS_SCORES,
    "values": frozenset({"values"}),
}
"""For each need of a metric, the outputs that serve it."""

_WORDS: Mapping[Outputs, str] = {
    "log-probabilities": "log-probabilities",
    "logits": "logits",
    "scores": "scores without a scale, which no softmax turns into probabilities",
    "values": "regression values",
}


def kind_of(needs: Needs) -> DataKind:
    """Return the kind of data that a metric with this need scores."""
    return "regression" if needs == "values" else "classification"


def mismatch(metric: str, needs: Needs, algorithm: str, outputs: Outputs) -> str | None:
    """Return why a metric cannot score what an algorithm predicts, None where it can."""
    if outputs in SERVED_BY[needs]:
        return None
    return f"metric {metric!r} needs {needs}; algorithm {algorithm!r} predicts {_WORDS[outputs]}"
