"""A network of another library cut into stages: its own forward followed once, and parted where one tensor passes.

The forward is traced symbolically (torch.fx) with whole blocks as single steps, so that what runs inside a block is the
library's own code, in training as in evaluation. Between two steps the network may be cut where nothing but one tensor
goes on. The pieces are gathered into stages by what they hold, not by whose network it is: see `gather`.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Container, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

LARGEST_SHARE = 0.9  # of the parameters that one step may hold: a step that holds more is a container of blocks
FEWEST_BLOCKS = 4  # among the steps; below, the largest one is taken for a container of blocks, as VGG's `features`
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
POOLING = (nn.MaxPool2d, nn.AvgPool2d)
WHOLE = "network"
RESERVED = ("bottleneck", "head")  # stages of every model above its backbone


class UncuttableError(ValueError):
    """A network that does not take such images; the text is what its library says."""


@dataclass(frozen=True)
class Names:
    """From the parameter names of the original to those of a backbone cut from it.

    places: the stage that has a module or a single parameter of the original, by its dotted name there. In its stage a
    parameter keeps its whole name, so in the backbone it is `stages.<stage>.<original name>`. classifier: the dotted
    name of the original's last linear layer, None where it can be no head here. left_out: where the original has what
    no stage has, such as auxiliary classifiers.
    """

    places: Mapping[str, str]
    classifier: str | None
    left_out: tuple[str, ...] = ()

    def own(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A state dict of the original under the backbone's names, its classifier as `head.out`; empty if foreign.

        What the original does not have keeps its name behind `stages.`, for whoever loads it to refuse.
        """
        named, found = {}, False
        for name, tensor in state.items():
            if self.classifier is not None and name.startswith(f"{self.classifier}."):
                named[f"head.out.{name.removeprefix(f'{self.classifier}.')}"] = tensor
            elif stage := self._stage_of(name):
                named[f"stages.{stage}.{name}"] = tensor
                found = True
            elif not name.startswith(tuple(f"{each}." for each in self.left_out)):
                named[f"stages.{name}"] = tensor
        return named if found else {}

    def _stage_of(self, name: str) -> str | None:
        parts = name.split(".")
        starts = (".".join(parts[:end]) for end in range(len(parts), 0, -1))
        return next((self.places[start] for start in starts if start in self.places), None)


@dataclass(frozen=True)
class Cut:
    """A network without its classifier, as stages from bottom to top, of which the last gives (N, out_features)."""

    stages: Mapping[str, nn.Module]
    names: Names
    out_features: int


def cut(
    network: nn.Module, shape: tuple[int, int, int], *, classifier: str | None, left_out: tuple[str, ...] = ()
) -> Cut:
    """Parts a network whose classifier is an nn.Identity; its modules are taken over, not copied.

    classifier, left_out: as in `Names`.

    shape: (C, H, W) of an image. Nothing is computed: shapes are followed on the meta device. A network whose forward
    cannot be followed (its way depends on values, say) is one stage. Raises UncuttableError where it refuses `shape`.
    """
    graph = follow(network)
    shapes = None if graph is None else _shapes(network, graph, shape)
    if graph is None or shapes is None:
        names = [name for name, _ in (*network.named_children(), *network.named_parameters(recurse=False))]
        width = _width(_features_shape(network, shape))
        return Cut({WHOLE: network}, Names(dict.fromkeys(names, WHOLE), classifier, left_out), width)
    found = pieces(network, graph, tensors=shapes.keys())
    stages: dict[str, nn.Module] = {}
    places: dict[str, str] = {}
    for name, piece in gather(network, found).items():
        stages[name] = _stage(network, piece)
        places |= dict.fromkeys(piece.holders(network), name)
    return Cut(stages, Names(places, classifier, left_out), _width(shapes[found[-1].exit]))


def _stage(network: nn.Module, piece: Piece) -> fx.GraphModule:
    """A module that runs the piece; its parts have their names in the network."""
    stage = fx.GraphModule(network, piece.graph())
    saved = network.state_dict().keys()
    for name in [name for name, _ in stage.named_buffers() if name not in saved]:
        owner, _, last = name.rpartition(".")
        stage.get_submodule(owner)._non_persistent_buffers_set.add(last)  # fx makes buffers of their own persistent
    return stage


def follow(network: nn.Module) -> fx.Graph | None:
    """The steps of the network's forward; containers of blocks are opened until blocks are the steps.

    None where the forward cannot be followed, or goes another way in training than in evaluation.
    """
    opened: set[str] = set()
    closed: set[str] = set()
    graph = _trace(network, opened)
    while graph is not None:
        container = _container(network, graph, closed)
        if container is None:
            return graph
        inside = _trace(network, opened | {container})
        if inside is None:
            closed.add(container)
        else:
            opened.add(container)
            graph = inside
    return None


class _Tracer(fx.Tracer):
    """Takes every module for one step but the opened ones."""

    def __init__(self, opened: set[str]) -> None:
        super().__init__()
        self.opened = opened

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return module_qualified_name not in self.opened


def _trace(network: nn.Module, opened: set[str]) -> fx.Graph | None:
    was_training = network.training
    graphs = []
    _, *options = inspect.signature(network.forward).parameters.values()
    others = {each.name: each.default for each in options if each.default is not inspect.Parameter.empty}
    try:
        for training in (True, False):
            # Of the opened modules alone: what happens in a step is not followed.
            for name in ("", *opened):
                network.get_submodule(name).training = training
            graphs.append(_images_only(_Tracer(opened).trace(network, others)))
    except Exception:  # whatever the library's code does when it meets a placeholder instead of a tensor
        return None
    finally:
        network.train(was_training)
    train, evaluation = (graph.python_code("self").src for graph in graphs)
    return graphs[1] if train == evaluation else None


def _images_only(graph: fx.Graph) -> fx.Graph:
    """The graph without the inputs that keep their defaults: the tracer leaves them, each with an assertion."""
    graph.set_codegen(fx.graph.CodeGen())
    _, *others = (node for node in graph.nodes if node.op == "placeholder")
    for node in others:
        for user in list(node.users):
            for assertion in (*user.users, user):
                graph.erase_node(assertion)
        graph.erase_node(node)
    return graph


def _container(network: nn.Module, graph: fx.Graph, closed: set[str]) -> str | None:
    """The step to open next, None where the steps are fine enough."""
    steps = {str(node.target): network.get_submodule(str(node.target)) for node in graph.nodes if _is_step(node)}
    sizes = {name: size for name, module in steps.items() if (size := _size(module))}
    whole = sum(sizes.values())
    few = sum(is_block(steps[name]) for name in sizes) < FEWEST_BLOCKS
    openable = [name for name in sizes if name not in closed and any(True for _ in steps[name].children())]
    if not openable:
        return None
    largest = max(openable, key=sizes.__getitem__)
    return largest if few or sizes[largest] > LARGEST_SHARE * whole else None


@dataclass
class Piece:
    """Consecutive steps of a forward: nodes, the value that comes in, and the value that goes out."""

    nodes: list[fx.Node]
    entry: fx.Node
    exit: fx.Node

    def graph(self) -> fx.Graph:
        """The steps by themselves; constants that several pieces use are made anew in each."""
        graph = fx.Graph()
        known = {self.entry: graph.placeholder("x")}

        def copied(node: fx.Node) -> fx.Node:
            if node not in known:
                known[node] = graph.node_copy(node, copied)
            return known[node]

        for node in self.nodes:
            copied(node)
        graph.output(known[self.exit])
        return graph

    def holders(self, network: nn.Module) -> list[str]:
        """Dotted names of the modules with parameters or buffers, and of the single ones, in this piece; in order."""
        saved = network.state_dict().keys()
        names = [str(node.target) for node in self.nodes if _is_step(node) or node.op == "get_attr"]
        return [name for name in names if name in saved or any(each.startswith(f"{name}.") for each in saved)]

    def modules(self, network: nn.Module) -> list[tuple[str, nn.Module]]:
        return [(str(node.target), network.get_submodule(str(node.target))) for node in self.nodes if _is_step(node)]

    def joined(self, following: Piece) -> Piece:
        return Piece([*self.nodes, *following.nodes], self.entry, following.exit)


def pieces(network: nn.Module, graph: fx.Graph, *, tensors: Container[fx.Node]) -> list[Piece]:
    """The finest cut of a forward: each piece hands one tensor to the next, and no parameter is in two pieces.

    tensors: the nodes whose value is one tensor.
    """
    entry, *nodes, _ = graph.nodes
    result = _result(graph)
    moving = {entry}
    for node in nodes:
        if any(each in moving for each in node.all_input_nodes):
            moving.add(node)
    # Parameters and constants wait for the first step that uses them.
    at = {node: number for number, node in enumerate(graph.nodes)}
    for node in reversed(nodes):
        if node not in moving and node.users:
            at[node] = min(at[user] for user in node.users)
    nodes.sort(key=lambda node: (at[node], node in moving))
    spans = _spans(network, nodes, at, moving)
    found: list[Piece] = []
    pending: list[fx.Node] = []
    for number, node in enumerate(nodes):
        pending.append(node)
        if number + 1 < len(nodes) and at[nodes[number + 1]] == at[node]:
            continue
        alive = [each for each in moving if at[each] <= at[node] < max((at[user] for user in each.users), default=-1)]
        crossed = any(first <= at[node] < last for first, last in spans)
        if len(alive) == 1 and alive[0] in tensors and alive[0] is not entry and not crossed:
            exit = alive[0]
            found.append(Piece(pending, entry, exit))
            pending, entry = [], exit
    if pending:  # what comes after the last value has gone out, such as an assertion
        found.append(Piece(pending, entry, result))
    return found


def _result(graph: fx.Graph) -> fx.Node:
    """The node that the graph gives; the tracer makes a list of one of it where it was given defaults."""
    (given,) = next(iter(reversed(graph.nodes))).args
    (result,) = given if isinstance(given, Sequence) else (given,)
    assert isinstance(result, fx.Node)
    return result


def _spans(
    network: nn.Module, nodes: Sequence[fx.Node], at: Mapping[fx.Node, int], moving: set[fx.Node]
) -> list[tuple[int, int]]:
    """From the first to the last use of everything that must not come to lie in two stages: what has parameters."""
    saved = network.state_dict().keys()
    uses: dict[object, list[int]] = {}
    stateful: set[fx.Node] = set()
    for node in nodes:
        if node.op == "get_attr" and node.target in saved:
            stateful.add(node)
            uses.setdefault(str(node.target), []).extend(at[user] for user in node.users)
        elif _is_step(node) and _holds(network.get_submodule(str(node.target))):
            stateful.add(node)
            uses.setdefault(str(node.target), []).append(at[node])
        elif node not in moving and any(each in stateful for each in node.all_input_nodes):
            stateful.add(node)
        if node in stateful and node not in moving:
            uses.setdefault(node, []).extend(at[user] for user in node.users)
    return [(min(places), max(places)) for places in uses.values() if places]


def gather(network: nn.Module, found: Sequence[Piece]) -> dict[str, Piece]:
    """Pieces as named stages, bottom to top.

    A block (a module with modules in it), a linear layer, and a convolution after a block or after pooling begin a
    stage, if the one below has parameters; everything else belongs to the stage below it. The lowest is called stem,
    another one by its first module: `layer1`, `features_3` where that has but a number in its container.
    """
    stages: list[Piece] = []
    seen_block = pooled = False
    for piece in found:
        modules = [module for _, module in piece.modules(network) if _size(module)]
        has_block = any(is_block(module) for module in modules)
        starts = has_block or any(isinstance(module, nn.Linear) for module in modules)
        starts = starts or ((seen_block or pooled) and any(isinstance(module, CONVOLUTIONS) for module in modules))
        if stages and not (starts and _has_parameters(network, stages[-1])):
            stages[-1] = stages[-1].joined(piece)
        else:
            stages.append(piece)
        seen_block = seen_block or has_block
        pooled = any(isinstance(module, POOLING) for _, module in piece.modules(network)) or (pooled and not modules)
    named: dict[str, Piece] = {}
    for piece in stages:
        learning = [name for name, module in piece.modules(network) if _size(module)]
        first = next(iter([*learning, *piece.holders(network)]), WHOLE)
        container, _, last = first.rpartition(".")
        name = f"{container.rpartition('.')[2]}_{last}" if last.isdigit() else last
        name = name if named else "stem" if len(stages) > 1 else WHOLE
        name = f"pre_{name}" if name in RESERVED else name
        named[first.replace(".", "_") if name in named else name] = piece
    return named


def is_block(module: nn.Module) -> bool:
    """Whether it has modules of its own, and among its parameters weights of more than one dimension, unlike a norm."""
    return any(True for _ in module.children()) and any(each.dim() > 1 for each in module.parameters())


def _has_parameters(network: nn.Module, piece: Piece) -> bool:
    return any(_size(_at(network, name)) for name in piece.holders(network))


def _is_step(node: fx.Node) -> bool:
    return node.op == "call_module"


def _at(network: nn.Module, name: str) -> Any:
    owner, _, last = name.rpartition(".")
    return getattr(network.get_submodule(owner), last)


def _size(found: Any) -> int:
    """How many numbers a module, a parameter or a buffer learns."""
    if isinstance(found, nn.Module):
        return sum(each.numel() for each in found.parameters())
    return found.numel() if isinstance(found, nn.Parameter) else 0


def _holds(module: nn.Module) -> bool:
    return bool(module.state_dict())


def without_values(network: nn.Module) -> nn.Module:
    """A copy in evaluation mode whose parameters and buffers are on the meta device: shapes, and no memory."""
    stand_ins: dict[int, Any] = {
        id(each): nn.Parameter(torch.empty_like(each, device="meta"), requires_grad=False)
        for each in network.parameters()
    }
    stand_ins |= {id(each): torch.empty_like(each, device="meta") for each in network.buffers()}
    return copy.deepcopy(network, stand_ins).eval()


def _shapes(network: nn.Module, graph: fx.Graph, shape: tuple[int, int, int]) -> dict[fx.Node, torch.Size] | None:
    """The shape of each node of the graph whose value is one tensor, for two images; None where that cannot be told."""
    found: dict[fx.Node, torch.Size] = {}

    class Recorder(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            value = super().run_node(n)
            if isinstance(value, Tensor):
                found[n] = value.shape
            return value

    with torch.no_grad(), suppress(Exception):  # what stops the network itself is told by `_features_shape`
        recorder = Recorder(fx.GraphModule(without_values(network), graph), graph=graph)
        recorder.run(torch.empty(2, *shape, device="meta"))
        return found
    return None


def _features_shape(network: nn.Module, shape: tuple[int, int, int]) -> torch.Size:
    with torch.no_grad():
        try:
            features = without_values(network)(torch.empty(2, *shape, device="meta"))
        except Exception as error:  # it depends on the library how a network says that it does not take such images
            raise UncuttableError(next(iter(str(error).splitlines()), type(error).__name__)) from error
    return features.shape if isinstance(features, Tensor) else torch.Size()


def _width(shape: torch.Size) -> int:
    if len(shape) != 2:
        raise UncuttableError("what it gives is not a row of features for each image")
    return shape[1]
