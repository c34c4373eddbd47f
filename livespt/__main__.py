"""``python -m livespt``."""

from livespt.cli import entry

if __name__ == "__main__":
    entry()
