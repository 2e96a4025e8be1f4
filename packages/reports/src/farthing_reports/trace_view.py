"""A trace on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.text import Text
from rich.tree import Tree

from farthing_reports.render import plural, printable
from farthing_reports.trace import Node, Trace, known_cost

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from farthing.envelope import Call

__all__ = ["trace_tree"]

_CHILDREN_SHOWN: Final = 50
_MINUTE: Final = 60
_COLOURS: Final = {"workflow": "bold cyan", "agent": "bold magenta", "task": "bold blue"}


def trace_tree(trace: Trace) -> Tree:
    """Draw a trace: totals at the top, then scopes, attempts and calls in the order of time."""
    calls = trace.root.calls()
    took = max(call.ended_at for call in calls) - trace.root.started_at
    head = Text.assemble(
        ("trace ", "bold"), (trace.trace_id, "bold"), f"  {trace.root.started_at:%Y-%m-%d %H:%M:%S}Z  {_seconds(took)}"
    )
    if trace.tags:
        head.append(f"\n{_tags(trace.tags)}", style="dim")
    head.append("\n")
    head.append_text(_totals(calls))
    tree = Tree(head)
    _grow(tree, trace.root.children, trace)
    return tree


def _grow(tree: Tree, children: Sequence[Node], trace: Trace) -> None:
    for node in children[:_CHILDREN_SHOWN]:
        if node.call is not None:
            tree.add(_call(node.call, trace))
        elif node.scope is not None:
            label = Text.assemble(
                (node.scope.kind, _COLOURS.get(node.scope.kind, "bold")), f" {printable(node.scope.name)}  "
            )
            _grow(tree.add(label.append_text(_totals(node.calls()))), node.children, trace)
        else:
            label = Text.assemble((plural(len(node.children), "attempt"), "bold yellow"), " at one operation  ")
            _grow(tree.add(label.append_text(_totals(node.calls()))), node.children, trace)
    if rest := [call for node in children[_CHILDREN_SHOWN:] for call in node.calls()]:
        tree.add(Text("more: ", style="dim").append_text(_totals(rest)))


def _totals(calls: Sequence[Call]) -> Text:
    amount, unknown = known_cost(calls)
    usages = [call.usage for call in calls if call.usage is not None]
    inputs = sum(usage.input_tokens or 0 for usage in usages)
    outputs = sum(usage.output_tokens or 0 for usage in usages)
    text = Text(f"{plural(len(calls), 'call')}, {inputs:,} in, {outputs:,} out, ")
    if not unknown:
        return text.append(f"${amount:f}", style="green")
    return text.append(f"≥ ${amount:f} ({plural(unknown, 'call')} of unknown cost)", style="yellow")


def _call(call: Call, trace: Trace) -> Text:
    model = call.response_model or call.request_model or "unknown model"
    text = Text.assemble(f"{printable(call.operation)} ", (printable(model), "bold"))
    if call.usage is not None:
        text.append(f"  {call.usage.input_tokens or 0:,} in, {call.usage.output_tokens or 0:,} out")
    text.append("  ").append_text(_cost(call))
    text.append(f"  {_seconds(call.ended_at - call.started_at)}")
    if call.streaming:
        first = call.time_to_first_chunk_seconds
        text.append(" streamed" if first is None else f" streamed, first chunk after {first:.2f} s", style="dim")
    if call.outcome != "success":
        reason = f" {printable(call.error_type)}" if call.error_type else ""
        text.append(f"  {call.outcome}{reason}", style="red")
    if call.attempt > 1:
        text.append(f"  attempt {call.attempt}", style="yellow")
    if own := trace.own_tags(call):
        text.append(f"  {_tags(own)}", style="dim")
    if call.cost.flags:
        text.append(f"  [{', '.join(printable(flag) for flag in call.cost.flags)}]", style="dim")
    return text


def _cost(call: Call) -> Text:
    cost = call.cost
    if cost.amount_usd is None and cost.estimated_usd is not None:
        return Text(f"cost unknown (estimated ${cost.estimated_usd:f})", style="yellow")
    if cost.amount_usd is None:
        return Text(f"cost unknown ({cost.status})", style="yellow")
    if cost.status == "cache_hit":
        saved = "" if cost.saved_usd is None else f", saved ${cost.saved_usd:f}"
        return Text(f"cache hit{saved}", style="green")
    remark = "" if cost.status == "priced" else f" ({cost.status.replace('_', ' ')})"
    return Text(f"${cost.amount_usd:f}{remark}", style="green")


def _tags(tags: Sequence[tuple[str, str]]) -> str:
    return " ".join(f"{name}={printable(value)}" for name, value in tags)


def _seconds(span: timedelta) -> str:
    seconds = max(0.0, span.total_seconds())
    return f"{seconds:.2f} s" if seconds < _MINUTE else f"{seconds / _MINUTE:.1f} min"
