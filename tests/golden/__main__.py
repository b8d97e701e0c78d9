"""`python -m tests.golden`."""

import sys

from tests.golden.master import main

sys.exit(main())
