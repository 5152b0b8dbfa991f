"""What a client calls a model: its name, and behind a colon a recipe.

smollm2                             the recipe that the server was started with
smollm2:yarn(factor=2)+lookup       for clients that can send no field `recipe`
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lengthwise._utils.suggestions import did_you_mean
from lengthwise.errors import RecipeError
from lengthwise.methods.base import Method
from lengthwise.methods.options import options
from lengthwise.recipes import Recipe, parse
from lengthwise.serving.errors import ApiError, quoted


@dataclass(frozen=True)
class Chosen:
    """The model and the recipe of one call. name: as it is repeated in the answer."""

    name: str
    recipe: Recipe


@dataclass(frozen=True)
class Names:
    """What the model is called here.

    known: all its names, the first of which is shown. recipe: of calls that name none. files:
    whether a call may name files of this machine in a recipe.
    """

    known: Sequence[str]
    recipe: Recipe
    files: bool = False

    def choose(self, model: str | None, recipe: str | None) -> Chosen:
        """The model and the recipe that a call means.

        Args:
            model: the field `model`; None is the model there is.
            recipe: the field `recipe`; None leaves it to the name.

        Raises:
            ApiError: 404 for another model, 422 for a recipe that cannot be read, 400 for two.
        """
        name, behind = self._split(model)
        if behind is not None and recipe is not None and behind != recipe:
            raise ApiError(
                400, "two_recipes", f"two recipes are given, {quoted(behind)} in model and "
                f"{quoted(recipe)} in recipe; give one", "recipe",
            )  # fmt: skip
        text = recipe if recipe is not None else behind
        if text is None:
            return Chosen(name, self.recipe)
        found = self._parsed(text, "recipe" if recipe is not None else "model")
        return Chosen(name if behind is None else f"{name}:{found}", found)

    def _split(self, model: str | None) -> tuple[str, str | None]:
        if model is None:
            return self.known[0], None
        for name in sorted(self.known, key=len, reverse=True):
            if model.lower() == name.lower():
                return name, None
            if model.lower().startswith(f"{name.lower()}:"):
                return name, model[len(name) + 1 :]
        near = did_you_mean(model.partition(":")[0], self.known, ";")
        raise ApiError(
            404, "model_not_found", f"there is no model {quoted(model)} here{near} known are "
            f"{', '.join(self.known)}, alone or with a recipe as in '{self.known[0]}:lookup'",
            "model",
        )  # fmt: skip

    def _parsed(self, text: str, param: str) -> Recipe:
        try:
            found = parse(text)
        except RecipeError as error:
            raise ApiError(422, "recipe_invalid", str(error), param) from None
        if not self.files and str(found) != str(self.recipe):
            self._refuse_files(found, param)
        return found

    def _refuse_files(self, recipe: Recipe, param: str) -> None:
        """A call must not read or write files of this machine, or fetch models onto it."""
        own = {str(method) for method in self.recipe.methods}
        for method in recipe.methods:
            if str(method) in own:
                continue
            for name in _texts(method):
                if name in NESTED:
                    self._refuse_files(parse(getattr(method, name)), param)
                elif name not in NO_FILES:
                    raise ApiError(
                        422, "recipe_names_a_file", f"{method.name}({name}=...) names a file of "
                        "the server's, which calls may not; start it with --allow-files, or with "
                        "this recipe", param,
                    )  # fmt: skip


def _texts(method: Method) -> list[str]:
    """Options that were given any text."""
    return [
        each.name for each in options(type(method))
        if each.type is str and each.choices is None
        and getattr(method, each.name) not in (each.default, None, "")
    ]  # fmt: skip


# Options that hold a recipe, and those that hold words which name no file. Any other text may.
NESTED = ("draft", "recipe")
NO_FILES = ("branching", "choice", "keep", "layers", "regex", "skip")
