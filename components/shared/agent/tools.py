"""Tools: what the calls that a model writes (`<add 47 3>`) do. Nothing of a call is ever run as code.

calculator   <add a b> <sub a b> <mul a b>, nested at will; every result modulo ten, as the task `chain` counts
memory       <save k v> → ok; <load k> → what k holds, or ?
store        <find k> → the rest of the newest document that begins with k, or ?
context      the words of the prompt are documents too: <find k> after `a3 k7 …` → 7
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from components.shared.tasks.generators.behaviours import Call, parse

UNKNOWN, DONE = "?", "ok"


class Toolbox:
    """The tools of one session. What is saved stays for its later prompts.

    :param allowed: names out of the table above.
    :param documents: the store, oldest first: `key value` or `key=value` or `keyvalue`.
    """

    def __init__(self, allowed: Collection[str], documents: Iterable[str] = ()) -> None:
        self.allowed = frozenset(allowed)
        self.documents = list(documents)
        self.memory: dict[str, str] = {}

    def execute(self, text: str, prompt: str = "") -> str:
        """What a call yields. A text that is no call, or one that no allowed tool can execute, stays as it is."""
        call = parse(text)
        result = None if call is None else self._run(call, prompt)
        return text if result is None else result

    def _run(self, call: Call, prompt: str) -> str | None:
        """None where no allowed tool knows the call."""
        if "calculator" in self.allowed and (value := calculate(call)) is not None:
            return str(value)
        if not call.arguments or any(isinstance(argument, Call) for argument in call.arguments):
            return None
        key, *rest = map(str, call.arguments)
        if "memory" in self.allowed and call.name == "save" and len(rest) == 1:
            self.memory[key] = rest[0]
            return DONE
        if "memory" in self.allowed and call.name == "load" and len(rest) <= 1:
            return self.memory.get(key, UNKNOWN)
        if self.allowed & {"store", "context"} and call.name == "find" and not rest:
            return self._find(key, prompt)
        return None

    def _find(self, key: str, prompt: str) -> str:
        documents = self.documents if "store" in self.allowed else []
        if "context" in self.allowed:
            documents = [*documents, *prompt.partition("?")[0].split()]
        for document in reversed(documents):
            rest = document.removeprefix(key).removeprefix("=").strip()
            if document.startswith(key) and rest:
                return rest
        return UNKNOWN


OPERATIONS = {"add": int.__add__, "sub": int.__sub__, "mul": int.__mul__}


def calculate(call: Call | int | str) -> int | None:
    """The value of nested add, sub and mul modulo ten; None where something else stands among them."""
    if isinstance(call, int):
        return call
    if isinstance(call, str) or call.name not in OPERATIONS or len(call.arguments) != 2:
        return None
    left, right = (calculate(argument) for argument in call.arguments)
    return None if left is None or right is None else OPERATIONS[call.name](left, right) % 10
