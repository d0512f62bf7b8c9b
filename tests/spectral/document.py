"""The OpenAPI document on stdout, of an API that does not run."""

import json
import sys

from comanda.api.app import document

json.dump(document(), sys.stdout, indent=1)
