"""`python -m edgedl` is `edgedl`."""

from __future__ import annotations

from edgedl.pipeline.cli.main import main

if __name__ == "__main__":
    main()
