"""A patch of one line, on its way to one host."""

import json
from urllib.request import urlopen

import pytest


def ask(machine):
    with machine.forward(8080) as port, urlopen(f"http://127.0.0.1:{port}") as answer:
        return json.load(answer)


@pytest.fixture(scope="session")
def before(site, deployed):
    """What a host answered before its update."""
    return ask(site.east)


def new_layers(old, new):
    """Titles of the layers that one image has and the other has not."""
    known = {layer.key for layer in old.layers}
    return [layer.meta.title for layer in new.layers if layer.key not in known]


def test_same_sources_are_not_built_again(pipeline, artifact, definition, patched_definition):
    first = pipeline.workbench(definition)
    assert pipeline.workbench(definition).layers == first.layers
    assert new_layers(first, pipeline.workbench(patched_definition)) == ["build the package"]


def test_only_the_artifact_is_new_in_the_application(application, update):
    assert new_layers(application, update) == ["install the artifact"]
    assert (application.packages["shop"], update.packages["shop"]) == ("1.0", "1.1")


def test_what_is_new_is_small(update):
    # beside the package itself, dpkg's list of all packages
    assert update.layers[-1].meta.size < 1_000_000


def test_updated_host_serves_the_new_version_and_the_other_the_old(site, before, updated):
    assert before == {"version": "1.0", "greeting": "Welcome", "currency": "EUR"}
    assert ask(site.east) == {"version": "1.1", "greeting": "Welcome back", "currency": "EUR"}
    assert ask(site.west) == before
    assert set(updated.hosts) == {"east"}
