from tests.providers.conftest import build as build_containers
from tests.providers.conftest import built, debian, podman
from tests.realisation.conftest import build, portal, recorder, state
