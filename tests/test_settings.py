"""What the environment may say, and what it may not break."""

from __future__ import annotations

from pathlib import Path

from mull.settings import load_settings


def test_the_store_lies_where_the_environment_says():
    assert load_settings({"HOME": "/home/a"}).models_dir == Path("/home/a/.local/share/mull/models")
    assert load_settings({"HOME": "/home/a", "XDG_DATA_HOME": "/d"}).models_dir == Path("/d/mull/models")
    assert load_settings({"HOME": "/home/a", "MULL_MODELS": "/m"}).models_dir == Path("/m")


def test_the_home_of_an_unknown_user_is_left_as_it_is_written():
    settings = load_settings({"HOME": "/home/a", "MULL_MODELS": "~nosuchuser/models"})
    assert settings.models_dir == Path("~nosuchuser/models")
