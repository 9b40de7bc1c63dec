"""`python -m arbiter.run`."""

import sys

from arbiter.run.main import main

sys.exit(main())
