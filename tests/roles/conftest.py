from tests.realisation.conftest import build, portal, recorder, state
