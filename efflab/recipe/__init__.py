"""What the user asked for, read and checked."""

from efflab.foundation.old_names import forward

MOVED = ["Limits", "Recipe", "RecipeSpec", "load_recipe", "parse_recipe", "recipe_of"]
__getattr__ = forward("efflab.recipe", ["efflab.recipe.recipe"], MOVED)
