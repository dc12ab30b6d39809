"""A group whose help lists its commands by what they are for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click


class SectionedGroup(click.Group):
    """Commands under headings. sections: heading -> commands, both in the order in which the help shows them."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.sections: dict[str, tuple[str, ...]] = {}

    def add_sections(self, sections: Mapping[str, Mapping[click.Command, str]]) -> None:
        """Adds the commands of every section, each with what the list says of it."""
        for heading, commands in sections.items():
            for command, said in commands.items():
                command.short_help = said
                self.add_command(command)
            self.sections[heading] = tuple(str(command.name) for command in commands)

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(len(name) for names in self.sections.values() for name in names)
        for heading, names in self.sections.items():
            with formatter.section(heading):
                # As wide in each section as in the widest, so that they stand in one column.
                limit = formatter.width - 6 - width
                rows = [(name.ljust(width), self.commands[name].get_short_help_str(limit)) for name in names]
                formatter.write_dl(rows)
