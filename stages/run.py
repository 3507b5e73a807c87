"""run: the stages of a configuration file, in order."""

from pipeline.chain import chain_command

command = chain_command(
    "Run the chain of stages that a configuration file lists.",
    "The stages of [run] stages = [...] run in order in this process. Everything is planned first: a misspelt key, a "
    "value out of range or a missing input stops the command before the first stage starts. A stage whose settings "
    "and inputs are those of the last time is skipped, otherwise the reason is printed; an interrupted one continues. "
    "Ends with a table of what ran, the key figures and the output folders.",
    "python cli.py run --config configs/quickstart.toml --run demo --workers 2",
)
