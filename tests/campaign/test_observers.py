"""Which observers a process has: by name, from its environment."""

from __future__ import annotations

import pytest

from t2t.campaign import observer as module
from t2t.campaign.observer import Observer, Observers, open_observers
from t2t.core.errors import T2TError
from t2t.integrations.mlflow.observer import MLflowObserver
from tests.helpers.campaigns import tiny


class Quiet(Observer):
    """One of a plug-in's."""


def test_mlflow_is_told_where_nobody_says_otherwise(world, tmp_path, monkeypatch):
    monkeypatch.delenv("T2T_OBSERVERS", raising=False)
    assert isinstance(open_observers(tiny(world, tmp_path)), MLflowObserver)


def test_several_are_told_one_after_the_other(world, tmp_path, monkeypatch):
    monkeypatch.setitem(module.OBSERVERS, "quiet", f"{__name__}:Quiet")
    monkeypatch.setenv("T2T_OBSERVERS", "quiet, mlflow")
    opened = open_observers(tiny(world, tmp_path))
    assert isinstance(opened, Observers)
    assert [type(observer) for observer in opened.observers] == [Quiet, MLflowObserver]


def test_nobody_is_told(world, tmp_path, monkeypatch):
    monkeypatch.setenv("T2T_OBSERVERS", "")
    opened = open_observers(tiny(world, tmp_path))
    assert isinstance(opened, Observers)
    assert opened.observers == ()
    assert opened.place() is None


def test_an_unknown_name_is_refused(world, tmp_path, monkeypatch):
    monkeypatch.setenv("T2T_OBSERVERS", "mlfow")
    with pytest.raises(T2TError, match=r"T2T_OBSERVERS: unknown observer 'mlfow'\. Did you mean 'mlflow'\?"):
        open_observers(tiny(world, tmp_path))
