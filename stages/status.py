"""status: what a run holds, what is stale and why."""

from pipeline.status import status_command

command = status_command(
    "Show what a run holds, what is stale and why.",
    "States: done; stale (made from other settings, inputs or code: the next run makes it again); unfinished (the "
    "next run continues it); missing; broken (a file is gone or damaged). With --config every stage of the chain is "
    "judged by the file's settings, without it by those each stage was made with.",
    "python cli.py status --config configs/quickstart.toml",
)
