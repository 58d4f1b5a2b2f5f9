"""Labs as people have them, beside these tests."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent
CLOS = FOLDER / "clos" / "clos.clab.yml"
CAMPUS = FOLDER / "campus"
SHOP = FOLDER / "shop" / "compose.yaml"
