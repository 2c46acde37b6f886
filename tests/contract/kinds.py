"""Policies for tests, and every way of writing one by the table of fields."""

from typing import Any

from hypothesis import strategies as st

from contract.kinds import forms
from contract.kinds.sections import Field, Many, Section

Object = dict[str, Any]


def traffic_policy(**spec: Any) -> Object:
    return {"spec": {"targetRef": {"name": "web"}} | spec}


def fault_injection(*faults: Object) -> Object:
    return {"spec": {"targetRef": {"name": "web"}, "faults": list(faults)}}


ODD: st.SearchStrategy[Any] = st.one_of(
    st.integers(-2, 2_000_000),
    st.floats(-1, 200, allow_nan=False),
    st.booleans(),
    st.text(max_size=4),
    st.sampled_from(
        ["5s", "1h30m", "0s", "1.5s", "64Ki", "5xx", "600", "504-502", "GET", "get", "/a", "x y", "a", "UNAVAILABLE"]
    ),
    st.just([]),
    st.just({}),
)
DURATIONS = st.lists(
    st.tuples(st.integers(0, 999).map(str), st.sampled_from(["h", "m", "s", "ms"])).map("".join), min_size=1, max_size=4
).map("".join)


def good(form: Any) -> st.SearchStrategy[Any]:
    """Values that a form mostly takes."""
    match form:
        case forms.Integer():
            return st.integers(form.low, form.high)
        case forms.Number():
            return st.floats(form.low, form.high) | st.integers(int(form.low) + 1, int(form.high))
        case forms.Percent():
            return st.floats(form.low, 100) | st.integers(int(form.low), 100)
        case forms.Flag():
            return st.booleans()
        case forms.Duration():
            return st.integers(form.low_ms, min(form.high_ms, 10**7)).map(forms.write_duration) | DURATIONS
        case forms.Quantity():
            return st.integers(form.low, form.high) | st.sampled_from(["1", "4k", "64Ki", "1Mi"])
        case forms.Statuses():
            return st.sampled_from([503, "503", "5xx", "4XX", "502-504", "429"])
        case forms.GrpcStatus():
            return st.sampled_from(list(forms.GRPC_STATUSES))
        case forms.Choice():
            return st.sampled_from(form.words)
        case forms.Text():
            return st.just(form.example if form is not forms.PATH else "/api/v1")
        case Many():
            return st.lists(good(form.item), min_size=form.low, max_size=3)
        case Section():
            return section(form, odd=False)
    raise AssertionError(form)


def section(form: Section, *, odd: bool) -> st.SearchStrategy[Object]:
    """Objects with some of a section's fields, and with `odd` some values that do not belong there."""

    def value(one: Field) -> st.SearchStrategy[Any]:
        if isinstance(one.form, Section):
            found: st.SearchStrategy[Any] = section(one.form, odd=odd)
        elif isinstance(one.form, Many):
            item = section(one.form.item, odd=odd) if isinstance(one.form.item, Section) else good(one.form.item)
            found = st.lists(item | ODD if odd else item, min_size=0 if odd else one.form.low, max_size=3)
        else:
            found = good(one.form)
        return found | ODD if odd else found

    required = {one.name: value(one) for one in form.fields if one.is_required}
    optional = {one.name: value(one) for one in form.fields if not one.is_required}
    if odd:
        optional["limt"] = ODD
        return st.fixed_dictionaries({}, optional=required | optional)
    return st.fixed_dictionaries(required, optional=optional)
