"""Chat templates of either language: Jinja, as model files bring them, and Go's, as Ollama's models do."""

from __future__ import annotations

from .go_template.template import GoTemplate, is_go
from .template import Template


def compile_template(source: str, *, bos: str = "", eos: str = "", path_name: str = "template") -> Template:
    """Return a template; raises TemplateError that says where `path_name` is wrong."""
    if is_go(source):
        return GoTemplate(source, bos=bos, eos=eos, path_name=path_name)
    return Template(source, bos=bos, eos=eos, path_name=path_name)


def another_template(own: Template | None, source: str) -> Template:
    """Return a template for the vocabulary of `own`; raises TemplateError."""
    return compile_template(source) if own is None else compile_template(source, bos=own.bos, eos=own.eos)
