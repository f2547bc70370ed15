"""Print the JSON Schema of recipes or cards, with every installed technique and backend, for editors."""

from __future__ import annotations

import argparse

HELP = "print the JSON Schema of recipes or cards, for editors"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("what", choices=["recipe", "card"], help="which schema")


def run(args: argparse.Namespace) -> int:
    """Print the schema."""
    import json
    import sys

    from efflab.foundation import registry
    from efflab.recipe.schema import card_schema, recipe_schema

    print(json.dumps(recipe_schema() if args.what == "recipe" else card_schema(), indent=1))
    for kind in ("techniques", "backends") if args.what == "recipe" else ():
        for reason in registry.working(kind)[1].values():
            print(f"efflab: left out: {reason}", file=sys.stderr)
    return 0
