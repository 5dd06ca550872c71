"""``python -m napari_osvos`` is the command line."""

import sys

from napari_osvos.cli import main

if __name__ == "__main__":
    sys.exit(main())
