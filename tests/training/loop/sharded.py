"""`training.distill` with FSDP2 over processes without a GPU: accelerate shards on accelerators alone, so it is told that it has some.
All else is real: torch's `fully_shard` over gloo, the Trainer's checkpoints, whole weights gathered at the end."""

from __future__ import annotations

import sys
from typing import Any

from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType

_begin = AcceleratorState.__init__


def begin(self: AcceleratorState, *given: Any, fsdp_plugin: Any = None, **named: Any) -> None:
    _begin(self, *given, fsdp_plugin=fsdp_plugin, **named)
    if self.distributed_type is DistributedType.MULTI_CPU:
        self.distributed_type, self.fsdp_plugin = DistributedType.FSDP, fsdp_plugin
        PartialState._shared_state["distributed_type"] = DistributedType.FSDP


if __name__ == "__main__":
    AcceleratorState.__init__ = begin  # type: ignore[method-assign]
    from training import distill
    from training.verb import run

    sys.exit(run(distill.main))
