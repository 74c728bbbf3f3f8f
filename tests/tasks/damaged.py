"""Published weights of which one tensor is wrong."""

from torch import Tensor

CHANGES = ["lost", "misnamed", "shape"]


def damaged(state: dict[str, Tensor], name: str, change: str) -> dict[str, Tensor]:
    """The weights without the tensor of that name; or with it misnamed, or a row short."""
    others = {each: value for each, value in state.items() if each != name}
    if change == "shape":
        return others | {name: state[name][:-1]}
    if change == "misnamed":
        return others | {name.replace(".weight", ".wait").replace(".bias", ".bios"): state[name]}
    return others
