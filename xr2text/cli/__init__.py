"""The command line: `xr2text COMMAND`, or `python -m xr2text COMMAND`. Each command has a file here."""
