"""What every request meets behind the door: the graph, its context, and the limits a request may move within."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from graphs.run import model_version
from graphs.serving.metrics import Metrics
from graphs.serving.wire import Overrides
from graphs.state import Context
from graphs.stepwise import StepwiseGraph
from graphs.strategies import STRATEGIES
from steper_agent.web.gate import Gate
from steper_agent.web.refusal import Refusal, bad_request


@dataclass(frozen=True, slots=True)
class Door:
    name: str
    """What clients call the model."""
    graph: StepwiseGraph
    context: Context
    most_k: int
    gate: Gate
    metrics: Metrics
    created: int
    """Seconds since the epoch."""

    @property
    def version(self) -> str:
        """Of the model that the next run gets."""
        return model_version(self.context)

    def check_name(self, name: str) -> None:
        if name != self.name:
            raise Refusal(404, f"there is no model `{name}` here, only `{self.name}`", code="model_not_found", param="model")

    def context_for(self, asked: Overrides) -> Context:
        """The context of one run.

        Raises:
            Refusal: more is asked for than this server gives.
        """
        changes = asked.model_dump(exclude_none=True)
        most = {"k": self.most_k, "steps": self.context.steps}
        for name, limit in most.items():
            if changes.get(name, 0) > limit:
                raise bad_request(f"at most {limit}", param=f"steper.{name}")
        if asked.strategy not in (None, *STRATEGIES):
            raise bad_request(f"one of: {', '.join(STRATEGIES)}", param="steper.strategy")
        if not changes:
            return self.context
        # The journal must not say that another recipe than the server's was the server's.
        return dataclasses.replace(self.context, **changes, recipe="")
