"""Which product a part is of, by its id: a pure function of the id and the config."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import translate

from agent.config.models import PatternedProduct, Station


@dataclass(frozen=True, slots=True)
class ProductChoice:
    """The patterns of a station, in their order; the first that fits counts.

    Patterns are those of `fnmatch.fnmatchcase`: of the whole id, and capitals count.

    Attributes:
        patterns: each with the name of its recipe.
    """

    patterns: tuple[tuple[re.Pattern[str], str], ...] = ()

    @classmethod
    def of(cls, products: Iterable[PatternedProduct]) -> ProductChoice:
        """Return the choice among the products of a station, as its config has them."""
        return cls(tuple((re.compile(translate(one.part_id)), one.recipe) for one in products))

    def named(self, part_id: str | None) -> str | None:
        """Return the recipe whose pattern fits a part; None where none does, or the part has no id."""
        if not part_id:
            return None
        return next((recipe for pattern, recipe in self.patterns if pattern.match(part_id)), None)


def product_parts(station: Station, recipe: str | None = None) -> Callable[[str | None], bool]:
    """Return which parts of a station are of a product, to be watched for its baseline.

    Those are the parts that its patterns name. The station's own recipe gets those too that no pattern names,
    and so does a recipe that has no pattern. A part without an id may be any: nobody triggers while a
    baseline is measured, and whoever measures says what is being made.

    Args:
        station: its config.
        recipe: of the product; None: the one in force.
    """
    choice, wanted = ProductChoice.of(station.products), recipe or station.recipe
    own = wanted == station.recipe or all(name != wanted for _, name in choice.patterns)

    def takes(part_id: str | None) -> bool:
        named = choice.named(part_id)
        return not part_id or (own if named is None else named == wanted)

    return takes
