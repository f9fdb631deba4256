"""`python -m tui` is `steper`."""

from tui.cli import main

raise SystemExit(main())
