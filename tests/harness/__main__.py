"""`python tests/harness` or `python -m tests.harness`: try every case and print the table."""

import sys
from pathlib import Path

here = Path(__file__).resolve().parent  # a folder that is run is on the path, its parent is not
sys.path[:] = [str(here.parent), *(path for path in sys.path if Path(path).resolve() != here)]

from harness.run import main  # noqa: E402

sys.exit(main(sys.argv[1:]))
