from tests.live.conftest import build, portal, recorder, state
from tests.providers.conftest import build as build_containers
from tests.providers.conftest import built, debian, podman
