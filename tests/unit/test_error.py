import copy
import inspect
import pickle

import pytest

from aero import error as errors
from aero.error import AeroError, ClientError, InvalidTypeError, InvalidValueError

CLASSES = [
    cls
    for _, cls in inspect.getmembers(errors, inspect.isclass)
    if issubclass(cls, AeroError)
]


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("carry", [lambda e: pickle.loads(pickle.dumps(e)), copy.copy])
def test_every_error_survives_pickling_with_its_facts(cls, carry):
    error = cls("It broke: mend it.", url="https://x", status=404)
    again = carry(error)
    assert type(again) is cls
    assert str(again) == again.message == "It broke: mend it."
    assert again.args == error.args
    assert again.facts == {"url": "https://x", "status": 404}
    assert (again.url, again.status) == ("https://x", 404)


@pytest.mark.parametrize("cls", CLASSES)
def test_the_docstring_is_the_default_message(cls):
    assert str(cls()) == inspect.getdoc(cls).split("\n")[0]


@pytest.mark.parametrize("cls", CLASSES)
def test_there_is_one_root(cls):
    assert issubclass(cls, AeroError)
    assert AeroError in cls.__mro__


def test_the_tree_in_the_docstring_is_the_tree():
    for cls in CLASSES:
        assert cls.__name__ in errors.__doc__


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ((404, "gone"), {}),
        (("gone",), {"code": 404}),
        ((), {"code": 404, "message": "gone"}),
        ((404,), {"message": "gone"}),
        ((1,), {"code": 404, "message": "gone"}),
    ],
)
def test_client_error_keeps_code_and_message_however_given(args, kwargs):
    error = ClientError(*args, **kwargs)
    assert (error.code, error.message, str(error)) == (404, "gone", "gone")
    again = pickle.loads(pickle.dumps(error))
    assert (again.code, again.message) == (404, "gone")


def test_client_error_without_anything():
    error = ClientError()
    assert error.code == 500
    assert str(error)


def test_each_kind_has_its_code_which_may_be_overridden():
    assert [errors.NotFoundError("x").code, errors.DuplicateError("x").code] == [
        404,
        409,
    ]
    assert errors.NotFoundError("x", code=410).code == 410
    assert errors.NotFoundError.code == 404


def test_bad_arguments_are_value_and_type_errors():
    assert isinstance(InvalidValueError("x"), ValueError)
    assert isinstance(InvalidTypeError("x"), TypeError)


def test_an_unknown_fact_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nothing"):
        _ = AeroError("x").nothing


def test_half_made_errors_have_no_facts():
    with pytest.raises(AttributeError):
        _ = AeroError.__new__(AeroError).anything
