"""`python -m kinema` is the same as the command `kinema`."""

import sys

from kinema.cli.main import main

sys.exit(main())
