"""`python -m xr2text` is the command `xr2text`."""

import sys

from xr2text.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
