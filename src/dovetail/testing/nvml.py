"""NVML as a recording, for tests on machines without it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from dovetail.devices.nvml import Unanswered


class RecordedNvml:
    """Answers what was written down.

    Args:
        system: function → answer, of functions about the system.
        gpus: the same of each part. An answer that is a list is given one value after the other, the last one again and again;
            one that is a mapping holds ``total`` and the like; a key ``function(1)`` is the answer to the argument 1.
    """

    def __init__(self, system: Mapping[str, Any], gpus: Sequence[Mapping[str, Any]]) -> None:
        self._system, self._gpus = system, gpus
        self._asked: dict[tuple[int | None, str], int] = {}

    def ask(self, function: str, gpu: int | None = None, *arguments: int) -> Any:
        """See :meth:`dovetail.devices.nvml.Nvml.ask`."""
        if function == "nvmlDeviceGetCount":
            return len(self._gpus)
        if gpu is not None and not 0 <= gpu < len(self._gpus):
            raise Unanswered("Invalid Argument")
        name = f"{function}({', '.join(map(str, arguments))})" if arguments else function
        answers = self._system if gpu is None else self._gpus[gpu]
        if name not in answers:
            raise Unanswered("Not Supported")
        return self._next(answers[name], (gpu, name))

    def _next(self, answer: Any, place: tuple[int | None, str]) -> Any:
        if isinstance(answer, list):
            number = self._asked.get(place, 0)
            self._asked[place] = number + 1
            return answer[min(number, len(answer) - 1)]
        return SimpleNamespace(**answer) if isinstance(answer, Mapping) else answer
