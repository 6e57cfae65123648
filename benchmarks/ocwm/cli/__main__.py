"""`python -m ocwm.cli`, the same as `bench`."""

import sys

from ocwm.cli.app import main

sys.exit(main())
