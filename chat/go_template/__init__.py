"""Go's text/template as Ollama's chat templates use it, in a few files: lexer, parser, evaluator, functions."""
