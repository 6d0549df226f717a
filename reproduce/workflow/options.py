"""Options of verbs that stand in a study."""

from typing import NoReturn

from src.artifacts.errors import UserError
from src.cli import Parser


class OptionsParser(Parser):
    """Reads options as their verb does: ``UserError`` names the entry where one is wrong."""

    def __init__(self, entry: str) -> None:
        super().__init__("", prog=entry, add_help=False)

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{self.prog}: {message}")
