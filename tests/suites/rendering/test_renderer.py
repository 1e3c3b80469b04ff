"""A template is rendered in a process of its own, and no template takes it down."""

import time
from pathlib import Path

import pytest

from suites.errors import UserError
from suites.rendering import Refused, Rendered, Renderer

ENDLESS = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return Renderer()


def test_a_refusal_is_a_result_with_the_templates_own_words(renderer: Renderer) -> None:
    asked = "{{ raise_exception('roles must alternate') }}"
    assert renderer.render(asked, {}) == Refused("roles must alternate", True)


def test_an_error_of_the_template_is_a_refusal_that_names_it(renderer: Renderer) -> None:
    assert renderer.render("{{ 'x' + none }}", {}) == Refused(
        'TypeError: can only concatenate str (not "NoneType") to str'
    )
    assert renderer.render("{{ a.b.c }}", {}) == Refused("'a' is undefined")
    broken = renderer.render("{% if %}", {})
    assert isinstance(broken, Refused)
    assert "Expected an expression" in broken.reason


@pytest.mark.parametrize(
    ("source", "what"),
    [
        (ENDLESS, "did not end within 5 s"),
        ("{{ 'a' * 10**7 }}", "more than 4194304 characters"),
        ("{{ 'a' * 10**10 }}", "too much memory"),
    ],
)
def test_a_limit_ends_a_rendering_and_not_the_renderer(
    renderer: Renderer, source: str, what: str
) -> None:
    with pytest.raises(UserError, match=what) as raised:
        renderer.render(source, {})
    assert raised.value.fix == "check the template; a prompt takes milliseconds"
    assert renderer.render("{{ x }}", {"x": 1}) == Rendered("1")


def test_a_template_reaches_neither_files_nor_python(renderer: Renderer) -> None:
    for source in (
        "{{ ''.__class__.__mro__ }}",
        "{{ cycler.__init__.__globals__ }}",
        "{% include 'chat_template.jinja' %}",
        "{% set _ = messages.append(1) %}",
    ):
        assert isinstance(renderer.render(source, {"messages": []}), Refused), source


def test_one_process_serves_many_renderings(renderer: Renderer) -> None:
    renderer.render("a", {})
    process = renderer._process
    started = time.perf_counter()
    for n in range(300):
        assert renderer.render("{{ n }}", {"n": n}) == Rendered(str(n))
    assert renderer._process is process
    assert time.perf_counter() - started < 10


def test_a_renderer_whose_process_was_killed_says_so_and_goes_on() -> None:
    with Renderer() as renderer:
        renderer.render("a", {})
        assert renderer._process is not None
        renderer._process.kill()
        renderer._process.wait()
        with pytest.raises(UserError, match="ended its process"):
            renderer.render("b", {})
        assert renderer.render("b", {}) == Rendered("b")


def test_the_variables_of_a_template_are_those_that_it_does_not_set(renderer: Renderer) -> None:
    source = "{% set x = 1 %}{{ x }}{{ enable_thinking }}{% for m in messages %}{{ m }}{% endfor %}"
    assert renderer.variables(source) == {"enable_thinking", "messages"}
    assert renderer.variables("{% if %}") == frozenset()


def test_no_secret_of_the_environment_reaches_the_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("API_KEY", "secret")
    with Renderer() as renderer:
        renderer.render("a", {})
        assert renderer._process is not None
        environment = Path(f"/proc/{renderer._process.pid}/environ").read_bytes()
    assert b"PYTHONUTF8" in environment
    assert b"secret" not in environment
