"""How a config.yaml of an older `version` is read: as a tree that is lifted, one version at a time.

The file stays as it is; lines and keys in messages are those that stand in it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from agent.config.yaml_tree import Node, Problem

Migration = Callable[[Node], Node]
"""From a file of one version to one of the next, both as mappings; never raises."""

FIRST = 1
MIGRATIONS: tuple[Migration, ...] = ()
"""Entry n lifts from version `FIRST` + n to the next. Never edit one that was released."""


def up_to_date(tree: Node, steps: Sequence[Migration] = MIGRATIONS) -> tuple[Node, list[Problem]]:
    """Return a file as one of the newest version, and what is wrong with its `version`.

    What is no whole number, or none, is left to the models to tell.

    Args:
        tree: a mapping.
        steps: the migrations that there are.
    """
    assert isinstance(tree.value, dict)
    newest = FIRST + len(steps)
    node = tree.value.get("version")
    if node is None or not isinstance(node.value, int) or isinstance(node.value, bool):
        return tree, []
    version = node.value
    if version > newest:
        what = f"written for a newer agent: this one knows up to {newest}: install that agent again"
        return tree, [Problem(node.line, node.path, what)]
    if version < FIRST:
        return tree, []
    for step in steps[version - FIRST :]:
        tree = step(tree)
    assert isinstance(tree.value, dict)
    return replace(tree, value={**tree.value, "version": replace(node, value=newest)}), []
