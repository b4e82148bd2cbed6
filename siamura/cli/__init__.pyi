from .commands import app
from .errors import cli_errors, configure_logging
from .start import main
from .train import settings_command

__all__ = ["app", "cli_errors", "configure_logging", "main", "settings_command"]
