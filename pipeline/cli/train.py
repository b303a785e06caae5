"""edgedl train: the recipe's model, trained; a killed run goes on."""

from __future__ import annotations

from edgedl.pipeline.cli.options import AsJson, Out, Quiet, RecipePath, Settings
from edgedl.pipeline.cli.output import output


def command(
    recipe: RecipePath, set: Settings = None, out: Out = None, as_json: AsJson = False, quiet: Quiet = False
) -> None:
    """Train the recipe's model; a run that was killed goes on after its last finished epoch."""
    with output(as_json, quiet) as say:
        from edgedl.core.artifacts import to_json
        from edgedl.pipeline.cli.words import quality_words
        from edgedl.pipeline.recipe import read_recipe
        from edgedl.pipeline.verbs import train

        trained = train(read_recipe(recipe, set or []), out=out)
        say.data({"folder": str(trained.folder), **to_json(trained)})
        say.line(f"{trained.name}: {trained.parameters:,} parameters, {trained.macs:,} MACs; {trained.stopped}")
        if trained.quality is not None:
            quality = trained.quality
            say.line(f"{quality.metric} {quality_words(quality)} (measured, n = {quality.n} test examples)")
        say.line(f"traces: {', '.join(f'{name} {count}' for name, count in trained.traces.items())}")
        say.line(f"written to {trained.folder}")
