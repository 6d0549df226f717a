"""Options of scripts in a study."""

from typing import NoReturn

from src.artifacts.errors import UserError
from src.cli import Parser


class OptionsParser(Parser):
    """Parser that reads options as their script does; ``UserError`` names the entry of a wrong option."""

    def __init__(self, entry: str) -> None:
        super().__init__("", prog=entry, add_help=False)

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{self.prog}: {message}")
