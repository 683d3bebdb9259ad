"""Write docs/api/openapi.json, the description of the studio's HTTP API."""

import json
import tempfile
from pathlib import Path

from videocrafter.web.app import create_app
from videocrafter.web.studio import Studio, StudioConfig

TARGET = Path(__file__).parents[1] / "docs/api/openapi.json"

with tempfile.TemporaryDirectory() as folder:
    gate = create_app(Studio(StudioConfig(data=Path(folder))), None)
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(json.dumps(gate.application.openapi(), indent=1) + "\n", encoding="utf-8")
