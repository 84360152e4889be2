"""Modelfiles with what they mean, and wrong ones with what is said of them: all as Ollama's own parser answers.

Its parser has read FROM, VALUES, COMMANDS, PARAMETERS and INVALID with these results. Lines are ours: it names the next
one where a line break ends a command too early, and counts two for CRLF.
"""

from __future__ import annotations

from dataclasses import dataclass

INVALID_COMMAND = (
    'command must be one of "from", "license", "template", "system", "adapter", "draft", '
    '"renderer", "parser", "parameter", "message", or "requires"'
)
INVALID_ROLE = 'message role must be one of "system", "user", or "assistant"'
INVALID_VERSION = "requires must be a valid semver (e.g. 0.14.0)"
NO_FROM = "no FROM line"
EOF = "unexpected EOF"

Commands = list[tuple[str, ...]]


@dataclass(frozen=True)
class Valid:
    """A text, and its instructions after FROM m; alone: the text has its own FROM among them."""

    source: str | bytes
    commands: Commands
    alone: bool = False

    @property
    def text(self) -> bytes:
        """The whole Modelfile."""
        return _bytes(self.source) if self.alone else b"FROM m\n" + _bytes(self.source)

    @property
    def expected(self) -> Commands:
        """All of its instructions."""
        return self.commands if self.alone else [("from", "m"), *self.commands]


@dataclass(frozen=True)
class Invalid:
    """A text, what is wrong with it, and in which line."""

    source: str | bytes
    message: str
    line: int | None

    @property
    def text(self) -> bytes:
        """The whole Modelfile."""
        return _bytes(self.source)


def _bytes(source: str | bytes) -> bytes:
    return source if isinstance(source, bytes) else source.encode()


def _system(source: str, value: str) -> Valid:
    return Valid(source, [("system", value)])


def _parameter(source: str, name: str, value: str) -> Valid:
    return Valid(f"PARAMETER {source}\n", [("parameter", name, value)])


FROM = {
    "plain": Valid("FROM m", [("from", "m")], alone=True),
    "newline": Valid("FROM m\n", [("from", "m")], alone=True),
    "lower case": Valid("from m", [("from", "m")], alone=True),
    "mixed case": Valid("FrOm m", [("from", "m")], alone=True),
    "blanks inside": Valid("FROM     two words    ", [("from", "two words")], alone=True),
    "quoted blanks": Valid('FROM "  m  "', [("from", "  m  ")], alone=True),
    "tag": Valid("FROM m:7b-q4_K_M", [("from", "m:7b-q4_K_M")], alone=True),
    "absolute path": Valid("FROM /a/b c.gguf ", [("from", "/a/b c.gguf")], alone=True),
    "tab": Valid("FROM\tm", [("from", "m")], alone=True),
    "indented": Valid("  \t FROM m", [("from", "m")], alone=True),
    "last": Valid("SYSTEM hi\nFROM m\n", [("system", "hi"), ("from", "m")], alone=True),
    "several": Valid("FROM m\nFROM ./n.gguf\n", [("from", "m"), ("from", "./n.gguf")], alone=True),
    "blank lines": Valid("\n\n\r\n \nFROM m\n\n", [("from", "m")], alone=True),
    "a hash in it": Valid("FROM m#1", [("from", "m#1")], alone=True),
}

VALUES = {
    "bare": _system("SYSTEM Be brief.", "Be brief."),
    "trimmed": _system("SYSTEM   padded   value   \n", "padded   value"),
    "tab between": _system("SYSTEM \t x", "x"),
    "a tab at the end": _system("SYSTEM x\t\n", "x"),
    "nothing": _system("SYSTEM \n", ""),
    "quoted nothing": _system('SYSTEM ""\n', ""),
    "triple-quoted nothing": _system('SYSTEM """"""\n', ""),
    "quoted": _system('SYSTEM "hi"', "hi"),
    "quoted blanks": _system('SYSTEM "  kept  "', "  kept  "),
    "quote in quotes": _system('SYSTEM "\'"', "'"),
    "quotes within": _system('SYSTEM say "hi" twice', 'say "hi" twice'),
    "a quote at the end": _system('SYSTEM 5"', '5"'),
    "quotes at both ends": _system('SYSTEM "a" and "b"', 'a" and "b'),
    "single quotes": _system("SYSTEM 'x'", "'x'"),
    "three quotes": _system('SYSTEM """x"""', "x"),
    "four quotes": _system('SYSTEM """"x""""', '"x"'),
    "two lines": _system('SYSTEM "one\ntwo"', "one\ntwo"),
    "three quotes, lines": _system('SYSTEM """\nTwo\nlines.\n"""\n', "\nTwo\nlines.\n"),
    "blanks after the end": _system('SYSTEM """a\nb"""   \n', "a\nb"),
    "quotes in lines": _system('SYSTEM """say "hi"\nor ""so"" """', 'say "hi"\nor ""so"" '),
    "quotes of all kinds": _system('SYSTEM """\'\'"\'""\'""\'"""', "''\"'\"\"'\"\"'"),
    "three quotes in a line": _system('SYSTEM """a """ b\nc"""', 'a """ b\nc'),
    "a line that looks like a command": _system('SYSTEM """a\nFROM b\n"""', "a\nFROM b\n"),
    "a comment that is none": _system("SYSTEM a # b", "a # b"),
    "a comment within": _system('SYSTEM """\n# a\n"""', "\n# a\n"),
    "empty lines within": _system('SYSTEM """a\n\n\nb"""', "a\n\n\nb"),
    "a backslash": _system("SYSTEM a\\nb\\", "a\\nb\\"),
    "CRLF": _system("SYSTEM bare\r\n# end\r\n", "bare"),
    "CRLF within": _system('SYSTEM "a\r\nb"\r\n', "a\r\nb"),
    "CR alone": Valid("SYSTEM a\rLICENSE b\r", [("system", "a"), ("license", "b")]),
    "not English": _system("SYSTEM 你好👋", "你好👋"),
    "combining": _system("SYSTEM e\u0301", "e\u0301"),
    "a template": Valid('TEMPLATE """{{ .Prompt }}\n"""', [("template", "{{ .Prompt }}\n")]),
    "twice": Valid("SYSTEM a\nSYSTEM b", [("system", "a"), ("system", "b")]),
}

COMMANDS = {
    "comment": Valid("# a\n#b\n  # c\nSYSTEM x\n#end", [("system", "x")]),
    "comment with commands": Valid("#SYSTEM x\nLICENSE y", [("license", "y")]),
    "case": Valid("sYsTeM x\nlicense y", [("system", "x"), ("license", "y")]),
    "indented": Valid("\t SYSTEM x", [("system", "x")]),
    "a no-break space before it": Valid("\u00a0SYSTEM x", [("system", "x")]),
    "adapter": Valid("ADAPTER ./lora.gguf", [("adapter", "./lora.gguf")]),
    "draft": Valid("DRAFT ./small.gguf", [("draft", "./small.gguf")]),
    "licences": Valid("LICENSE MIT\nLICENSE MIT", [("license", "MIT"), ("license", "MIT")]),
    "renderer": Valid("RENDERER qwen3", [("renderer", "qwen3")]),
    "parser": Valid("PARSER qwen3", [("parser", "qwen3")]),
    "message": Valid("MESSAGE user Hello: you", [("message", "user", "Hello: you")]),
    "message of the system": Valid("MESSAGE system Be.", [("message", "system", "Be.")]),
    "message in lines": Valid('MESSAGE assistant """\nHi\n"""', [("message", "assistant", "\nHi\n")]),
    "message in quotes": Valid('message user "a "', [("message", "user", "a ")]),
    "empty message": Valid("MESSAGE user \n", [("message", "user", "")]),
    "messages": Valid(
        "MESSAGE user a\nMESSAGE assistant b\nMESSAGE user c",
        [("message", "user", "a"), ("message", "assistant", "b"), ("message", "user", "c")],
    ),
    "requires": Valid("REQUIRES 0.14.0", [("requires", "0.14.0")]),
    "requires v": Valid("REQUIRES v1.2.3", [("requires", "v1.2.3")]),
    "requires short": Valid("REQUIRES 1", [("requires", "1")]),
    "requires a pre-release": Valid("REQUIRES 1.0.0-rc.1+b.7", [("requires", "1.0.0-rc.1+b.7")]),
    "byte order": Valid(b"\xef\xbb\xbfFROM m\nSYSTEM x", [("from", "m"), ("system", "x")], alone=True),
    "UTF-16": Valid(
        "\ufeffFROM m\nSYSTEM 你好".encode("utf-16-le"), [("from", "m"), ("system", "你好")], alone=True
    ),
    "UTF-16, big end first": Valid(
        "\ufeffFROM m\nSYSTEM 👋".encode("utf-16-be"), [("from", "m"), ("system", "👋")], alone=True
    ),
}

PARAMETERS = {
    "num_ctx": _parameter("num_ctx 4096", "num_ctx", "4096"),
    "num_predict": _parameter("num_predict -1", "num_predict", "-1"),
    "negative": _parameter("num_predict -2", "num_predict", "-2"),
    "seed": _parameter("seed -7", "seed", "-7"),
    "plus": _parameter("seed +7", "seed", "+7"),
    "zeros": _parameter("top_k 007", "top_k", "007"),
    "the largest": _parameter("seed 9223372036854775807", "seed", "9223372036854775807"),
    "temperature": _parameter("temperature 0.7", "temperature", "0.7"),
    "a whole number": _parameter("temperature 1", "temperature", "1"),
    "a point first": _parameter("min_p .05", "min_p", ".05"),
    "a point last": _parameter("top_p 1.", "top_p", "1."),
    "an exponent": _parameter("typical_p 1e-1", "typical_p", "1e-1"),
    "negative penalty": _parameter("presence_penalty -1.5", "presence_penalty", "-1.5"),
    "frequency": _parameter("frequency_penalty 0.25", "frequency_penalty", "0.25"),
    "repeat_penalty": _parameter("repeat_penalty 1.1", "repeat_penalty", "1.1"),
    "repeat_last_n": _parameter("repeat_last_n -1", "repeat_last_n", "-1"),
    "num_keep": _parameter("num_keep 4", "num_keep", "4"),
    "num_batch": _parameter("num_batch 512", "num_batch", "512"),
    "num_gpu": _parameter("num_gpu -1", "num_gpu", "-1"),
    "main_gpu": _parameter("main_gpu 0", "main_gpu", "0"),
    "num_thread": _parameter("num_thread 8", "num_thread", "8"),
    "draft_num_predict": _parameter("draft_num_predict 4", "draft_num_predict", "4"),
    "use_mmap": _parameter("use_mmap true", "use_mmap", "true"),
    "a letter": _parameter("use_mmap F", "use_mmap", "F"),
    "quoted number": _parameter('top_k "40"', "top_k", "40"),
    "stop": _parameter("stop <|im_end|>", "stop", "<|im_end|>"),
    "stop with blanks": _parameter("stop ### User:  ", "stop", "### User:"),
    "stop in quotes": _parameter('stop "### User: "', "stop", "### User: "),
    "stop in lines": _parameter('stop """a\n"""', "stop", "a\n"),
    "stop, a number": _parameter("stop 3", "stop", "3"),
    "stops": Valid(
        'PARAMETER stop a\nPARAMETER stop "b "\nPARAMETER stop a',
        [("parameter", "stop", "a"), ("parameter", "stop", "b "), ("parameter", "stop", "a")],
    ),
    "again": Valid(
        "parameter seed 1\nPARAMETER seed 2", [("parameter", "seed", "1"), ("parameter", "seed", "2")]
    ),
    "blanks": _parameter("seed    \t 1  ", "seed", "1"),
    "deprecated": _parameter("low_vram maybe", "low_vram", "maybe"),
    "deprecated too": _parameter("penalize_newline true", "penalize_newline", "true"),
}

OURS = {
    "think": _parameter("think medium", "think", "medium"),
    "think in tokens": _parameter("think 512", "think", "512"),
    "think_budget": _parameter("think_budget 25%", "think_budget", "25%"),
    "no budget": _parameter("think_budget -1", "think_budget", "-1"),
    "think_min": _parameter("think_min 64", "think_min", "64"),
    "think_rounds": _parameter("think_rounds 2", "think_rounds", "2"),
    "think_wait": _parameter('think_wait "\nWait"', "think_wait", "\nWait"),
    "think_soft": _parameter("think_soft 0.5", "think_soft", "0.5"),
    "think_message": _parameter("think_message Enough.", "think_message", "Enough."),
    "no message": _parameter('think_message ""', "think_message", ""),
    "think_reserve": _parameter("think_reserve 25%", "think_reserve", "25%"),
    "think_loop": _parameter("think_loop nudge", "think_loop", "nudge"),
    "think_exit": _parameter("think_exit confidence:0.9", "think_exit", "confidence:0.9"),
    "think_history": _parameter("think_history last", "think_history", "last"),
    "samplers": _parameter("samplers top_k;temperature", "samplers", "top_k;temperature"),
    "mirostat": _parameter("mirostat 2", "mirostat", "2"),
    "dry": _parameter("dry_multiplier 0.8", "dry_multiplier", "0.8"),
    "breakers": _parameter('dry_sequence_breakers "\n"', "dry_sequence_breakers", "\n"),
    "xtc": _parameter("xtc_probability 0.5", "xtc_probability", "0.5"),
    "repeat_stop": _parameter("repeat_stop 8", "repeat_stop", "8"),
}
"""Parameters that Ollama does not know, or takes and ignores."""

INVALID = {
    "empty": Invalid("", NO_FROM, None),
    "blank": Invalid(" \n\t\n", NO_FROM, None),
    "comments only": Invalid("# FROM m\n", NO_FROM, None),
    "no FROM": Invalid("SYSTEM hi\n", NO_FROM, None),
    "no FROM, and a wrong parameter": Invalid("PARAMETER nothing 1\n", NO_FROM, None),
    "FROM in a value": Invalid('SYSTEM """\nFROM m\n"""\n', NO_FROM, None),
    "unknown command": Invalid("FROM m\nSYSTM hi\n", INVALID_COMMAND, 2),
    "unknown command, indented": Invalid("FROM m\n\n  BADCOMMAND x\n", INVALID_COMMAND, 3),
    "a digit": Invalid("FROM m\nSYSTEM2 hi\n", INVALID_COMMAND, 2),
    "a number": Invalid("FROM m\n1\n", INVALID_COMMAND, 2),
    "a colon": Invalid("FROM: m\n", INVALID_COMMAND, 1),
    "an equals sign": Invalid("FROM=m\n", INVALID_COMMAND, 1),
    "an underscore": Invalid("FROM m\nSYS_TEM hi", INVALID_COMMAND, 2),
    "prose": Invalid("You are a bot.\nFROM m", INVALID_COMMAND, 1),
    "JSON": Invalid('{"from": "m"}', INVALID_COMMAND, 1),
    "Markdown": Invalid("```\nFROM m\n```\n", INVALID_COMMAND, 1),
    "a slash comment": Invalid("// my model\nFROM m\n", INVALID_COMMAND, 1),
    "two no-break spaces": Invalid("FROM m\n\u00a0\u00a0SYSTEM x", INVALID_COMMAND, 2),
    "a letter of elsewhere": Invalid("FROM m\nSУSTEM x", INVALID_COMMAND, 2),
    "no value": Invalid("FROM m\nSYSTEM\nLICENSE x\n", INVALID_COMMAND, 2),
    "no value at the end of the line": Invalid("FROM m\nSYSTEM\n", INVALID_COMMAND, 2),
    "a command in its value's second line": Invalid("FROM m\nSYSTEM a\nb c\n", INVALID_COMMAND, 3),
    "after three quotes": Invalid('FROM m\nSYSTEM """a"""\n"""\n', INVALID_COMMAND, 3),
    "no value at the end": Invalid("FROM m\nSYSTEM", EOF, 2),
    "only FROM": Invalid("FROM", EOF, 1),
    "an unknown command at the end": Invalid("FROM m\nNOPE", EOF, 2),
    "an open quote": Invalid('FROM m\nSYSTEM "\n', EOF, 2),
    "three open quotes": Invalid('FROM m\nSYSTEM """never\nclosed\n', EOF, 2),
    "closed by two": Invalid('FROM m\nSYSTEM """a""\n', EOF, 2),
    "five quotes": Invalid('FROM m\nSYSTEM """""\n', EOF, 2),
    "text after three quotes": Invalid('FROM m\nSYSTEM """a""" b\n', EOF, 2),
    "a comment after quotes": Invalid('FROM m\nSYSTEM "a" # b\n', EOF, 2),
    "CRLF and a quote": Invalid('FROM m\r\nSYSTEM "', EOF, 2),
    "no parameter": Invalid("FROM m\nPARAMETER\n", INVALID_COMMAND, 2),
    "a parameter's name only": Invalid("FROM m\nPARAMETER num_ctx\n", f"{EOF}: num_ctx", 2),
    "a parameter's name at the end": Invalid("FROM m\nPARAMETER num_ctx", EOF, 2),
    "a parameter with =": Invalid("FROM m\nPARAMETER seed=1\n", f"{EOF}: seed", 2),
    "a parameter with -": Invalid("FROM m\nPARAMETER top-k 1\n", f"{EOF}: top", 2),
    "a role only": Invalid("FROM m\nMESSAGE user\n", f"{EOF}: user", 2),
    "a role at the end": Invalid("FROM m\nMESSAGE user", EOF, 2),
    "a role and a colon": Invalid("FROM m\nMESSAGE user: hi\n", f"{EOF}: user", 2),
    "a role with a digit": Invalid("FROM m\nMESSAGE user1 hi\n", f"{EOF}: user", 2),
    "a wrong role": Invalid("FROM m\nMESSAGE badguy hi\n", INVALID_ROLE, 2),
    "a role in capitals": Invalid("FROM m\nMESSAGE User hi\n", INVALID_ROLE, 2),
    "a tool's role": Invalid("FROM m\nMESSAGE tool hi\n", INVALID_ROLE, 2),
    "a wrong role, then a wrong command": Invalid("FROM m\nMESSAGE bad hi\nNOPE x\n", INVALID_ROLE, 2),
    "unknown parameter": Invalid("FROM m\nPARAMETER temprature 1\n", "unknown parameter 'temprature'", 2),
    "a parameter in capitals": Invalid("FROM m\nPARAMETER Seed 1\n", "unknown parameter 'Seed'", 2),
    "a parameter of old": Invalid("FROM m\nPARAMETER numa true\n", "unknown parameter 'numa'", 2),
    "an int with a point": Invalid("FROM m\nPARAMETER top_k 1.5\n", "invalid int value [1.5]", 2),
    "an int in words": Invalid("FROM m\nPARAMETER num_ctx many\n", "invalid int value [many]", 2),
    "an int with a unit": Invalid("FROM m\nPARAMETER num_ctx 8K\n", "invalid int value [8K]", 2),
    "an int in hex": Invalid("FROM m\nPARAMETER seed 0x10\n", "invalid int value [0x10]", 2),
    "an int with blanks": Invalid("FROM m\nPARAMETER seed 1 2\n", "invalid int value [1 2]", 2),
    "an int with a comment": Invalid("FROM m\nPARAMETER seed 1 # x\n", "invalid int value [1 # x]", 2),
    "an int of nothing": Invalid("FROM m\nPARAMETER seed \n", "invalid int value []", 2),
    "an int of Persia": Invalid("FROM m\nPARAMETER seed ۴\n", "invalid int value [۴]", 2),
    "too large": Invalid(
        "FROM m\nPARAMETER seed 9223372036854775808\n", "invalid int value [9223372036854775808]", 2
    ),
    "too small": Invalid(
        "FROM m\nPARAMETER seed -9223372036854775809\n", "invalid int value [-9223372036854775809]", 2
    ),
    "a float in words": Invalid("FROM m\nPARAMETER top_p high\n", "invalid float value [high]", 2),
    "a float with a comma": Invalid("FROM m\nPARAMETER top_p 0,9\n", "invalid float value [0,9]", 2),
    "a share": Invalid("FROM m\nPARAMETER top_p 90%\n", "invalid float value [90%]", 2),
    "a float beyond all": Invalid("FROM m\nPARAMETER top_p 1e999\n", "invalid float value [1e999]", 2),
    "a float beyond 32 bits": Invalid("FROM m\nPARAMETER top_p 1e39\n", "invalid float value [1e39]", 2),
    "a float of nothing": Invalid('FROM m\nPARAMETER top_p ""\n', "invalid float value []", 2),
    "a bool in words": Invalid("FROM m\nPARAMETER use_mmap yes\n", "invalid bool value [yes]", 2),
    "a bool in odd letters": Invalid("FROM m\nPARAMETER use_mmap tRUE\n", "invalid bool value [tRUE]", 2),
    "a bool, a number": Invalid("FROM m\nPARAMETER use_mmap 2\n", "invalid bool value [2]", 2),
    "no version": Invalid("FROM m\nREQUIRES soon\n", INVALID_VERSION, 2),
    "a version of four": Invalid("FROM m\nREQUIRES 1.2.3.4\n", INVALID_VERSION, 2),
    "a version with a zero": Invalid("FROM m\nREQUIRES 0.014.0\n", INVALID_VERSION, 2),
    "a short pre-release": Invalid("FROM m\nREQUIRES 1.2-rc\n", INVALID_VERSION, 2),
    "a pre-release with a zero": Invalid("FROM m\nREQUIRES 1.2.3-01\n", INVALID_VERSION, 2),
    "a capital V": Invalid("FROM m\nREQUIRES V1.2.3\n", INVALID_VERSION, 2),
    "an empty version": Invalid("FROM m\nREQUIRES \n", INVALID_VERSION, 2),
}

OURS_INVALID = {
    "think": Invalid("FROM m\nPARAMETER think hard\n", "invalid think value [hard]", 2),
    "think_budget": Invalid("FROM m\nPARAMETER think_budget lots\n", "invalid think_budget value [lots]", 2),
    "think_soft": Invalid("FROM m\nPARAMETER think_soft much\n", "invalid float value [much]", 2),
    "think_rounds": Invalid("FROM m\nPARAMETER think_rounds 1.5\n", "invalid int value [1.5]", 2),
    "think_exit": Invalid("FROM m\nPARAMETER think_exit soon\n", "invalid think_exit value [soon]", 2),
    "think_history": Invalid("FROM m\nPARAMETER think_history all\n", "invalid think_history value [all]", 2),
    "think_loop": Invalid("FROM m\nPARAMETER think_loop round\n", "invalid think_loop value [round]", 2),
    # Where Ollama takes what cannot be meant, or changes it without a word.
    "FROM nothing": Invalid("FROM \nSYSTEM x\n", "FROM needs a value", 1),
    "not a number": Invalid("FROM m\nPARAMETER top_p nan\n", "invalid float value [nan]", 2),
    "infinite": Invalid("FROM m\nPARAMETER top_p inf\n", "invalid float value [inf]", 2),
    "not UTF-8": Invalid(b"FROM m\nSYSTEM caf\xe9", "the Modelfile is not UTF-8 text", 2),
    "not UTF-16": Invalid(b"\xff\xfeF", "the Modelfile is not UTF-16 text", 1),
}

LENIENT = {
    # Ollama takes the second blank for the end of an empty word.
    "blanks before a role": Valid("MESSAGE   user hi", [("message", "user", "hi")]),
    "blanks before a name": Valid("PARAMETER   seed 1", [("parameter", "seed", "1")]),
    # Ollama drops what it cannot print: this joined woman and computer.
    "joined emoji": _system("SYSTEM 👩\u200d💻 ok", "👩\u200d💻 ok"),
    "an ideographic space": _system("SYSTEM 你\u3000好", "你\u3000好"),
}
"""What Ollama refuses, or reads with a loss."""

VALID = {
    f"{kind}: {name}": case
    for kind, cases in (
        ("FROM", FROM), ("value", VALUES), ("command", COMMANDS), ("parameter", PARAMETERS), ("ours", OURS),
        ("lenient", LENIENT),
    )
    for name, case in cases.items()
}  # fmt: skip
