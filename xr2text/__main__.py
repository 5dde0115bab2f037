"""`python -m xr2text` is the command `xr2text`."""

from xr2text.cli.main import command

if __name__ == "__main__":
    command()
