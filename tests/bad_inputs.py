"""Bad inputs for every verb: a small world of files to be wrong about, and the cases.

Cases are words of a command line. `generated` makes some for every option that click knows of, by
its type, so that a new option is covered the day it is added; `WRITTEN` holds what no type tells.
"""

from __future__ import annotations

from collections.abc import Iterator

import click

from lengthwise.cli.arguments import Place, Real, Whole
from lengthwise.cli.main import group

Words = tuple[str, ...]

# A command of each verb that is right, or asks for one option more; one word of it is made wrong.
RIGHT: dict[Words, Words] = {
    ("compare",): ("doc.txt", "-m", "model", "-r", "streaming", "--max-new-tokens", "2"),
    ("eval", "run"): ("needle", "-m", "model", "--samples", "1", "-n", "200"),
    ("eval", "show"): ("some.run",),
    ("eval", "tasks"): (),
    ("run",): ("hi", "-m", "model", "-d", "doc.txt", "--max-new-tokens", "2"),
    ("read",): ("doc.txt", "-m", "model", "--save", "new.session"),
    ("batch",): ("requests.jsonl", "new.out", "-m", "model"),
    ("write",): ("hi", "-m", "talker", "--words", "4"),
    ("label",): ("items.jsonl", "Is it?", "-m", "talker", "--labels", "yes,no", "--size", "2",
                 "--rounds", "1"),
    ("chat",): ("-m", "talker", "--max-new-tokens", "2"),
    ("serve",): ("-m", "talker", "--port", "0"),
    ("methods",): (),
    ("check",): ("model",),
    ("machine",): ("-m", "model"),
    ("calibrate",): ("razor", "-m", "model"),
    ("bench", "drafting"): ("-m", "model", "--prompt-file", "prompts.jsonl", "--new-tokens", "2"),
    ("bench", "shelf"): (
        "doc.txt", "-m", "model", "-n", "1300", "--follow", "8", "--method", "think"
    ),
    ("eval", "harness"): ("toy.yaml", "-m", "model", "--limit", "1"),
    ("datastore", "build"): ("doc.txt", "-m", "model", "--out", "new.store"),
    ("cartridge", "train"): ("doc.txt", "-m", "talker", "--out", "new.session", "--tokens", "8",
                             "--pairs", "2", "--steps", "1", "--min-chunk", "4", "--max-chunk", "8",
                             "--question-tokens", "4", "--answer-tokens", "4"),
    ("cartridge", "compose"): ("some.cartridge", "-m", "talker", "--out", "new.session"),
    ("soft", "train"): ("dolphin(tokens=2,layers=1)", "doc.txt", "-m", "talker", "--out",
                        "new.encoder", "--steps", "1", "--batch", "1", "--length", "32"),
    ("soft", "read"): ("doc.txt", "-m", "talker", "--encoder", "some.encoder", "--save",
                       "new.session"),
    ("sequences", "build"): ("doc.txt", "--out", "new", "--method", "concat", "-t", "bytes",
                             "--max-length", "64"),
    ("sequences", "answers"): ("pairs.jsonl", "--out", "new", "--method", "plain", "-t", "bytes"),
    ("sequences", "curriculum"): ("--buckets", "64=100,128=100", "--tokens-per-step", "256"),
    ("sequences", "show"): ("data",),
    ("train",): ("run.toml",),
    ("curves",): ("run",),
    ("plan",): ("lengths.txt", "--devices", "8"),
    ("scaling", "laws"): (),
    ("scaling", "fit"): ("runs.csv", "--law", "converged", "--bootstrap", "0"),
    ("scaling", "predict"): ("--law", "converged", "--at", "N=1e9"),
    ("scaling", "solve"): ("--law", "chinchilla", "--at", "C=1e21"),
    ("scaling", "check"): (),
}  # fmt: skip
# Options that name a folder to write; other places are files.
FOLDERS = {("sequences", "build"): ("out", "tokens"), ("sequences", "answers"): ("out",),
           ("train",): ("out",),
           ("cartridge", "train"): ("work", "study"), ("soft", "train"): ("work",)}  # fmt: skip
# Files and folders to write, and not to read.
WRITTEN_TO = ("out", "html", "picture", "save", "tokens", "work", "study")
# What is no such thing, for options whose type says only that they are text. Every one of them is
# tried empty; an option that is missing here is tried with that alone.
NO_SUCH: dict[str, Words] = {
    "--model": ("~nope/x", "nope/nope/nope", "./nope", "doc.txt", "nope.gguf", "notok", "cut",
                "a b", "\udcff"),
    "--dtype": ("x", "int8", "fp8", " ", "\udcff"),
    "--device": ("x", "cpu:7", "meta", "cuda:99", "cpu:-1", " ", "\udcff"),
    "--recipe": (" ", "yarm", "full(", "full)", "full(x=1)", "yarn(factr=2)", "yarn(factor=x)",
                 "snapkv(budget=0)", "snapkv(budget=-1)", "snapkv(budget=1e999)", "+", "full +",
                 "kivi(bits=99999999999999999999)", "yarn(factor=nan)", "yarn(factor=inf)",
                 "streaming streaming", "streaming(window=1.5)", "\udcff", "recycling(table=no/x)",
                 "recycling(table=doc.txt)", "datastore(path=doc.txt)", "datastore(path=nope)",
                 "recycling(table=~nope/x)", "datastore(path=~nope/x)", "model(path=~nope/x)"),
    "--codec": (" ", "x", "kivi", "cachegem", "cachegen(", "cachegen(level=9)",
                "cachegen(levels=2)", "cachegen cachegen", "cachegen(chunk=0)", "\udcff"),
    "--question": (" ", "\n", "\udcff"),
    "--document": ("~nope/x", "nope.txt", "empty.txt", "blank.txt", "zeros.bin", "zip.pdf",
                   "zeros.pdf", "cut.pdf", "latin.txt", "hollow", "https://a.b/c", "\udcff"),
    "--stop": ("\udcff",),
    "--system": (" ", "\udcff"),
    "--draft": ("yarm", "kivi", " ", "\udcff"),
    "--kind": ("x", " ", "\udcff"),
    "--method": ("x", "Concat", " ", "\udcff"),
    "--order": ("x", "shufle", " ", "\udcff"),
    "--tokenizer": ("nope.json", "doc.txt", "data/nope", "notok", " ", "\udcff"),
    "--end-token": ("nope", "\udcff"),
    "--encoder": ("nope", "\udcff"),
    "--stages": ("x", "restore;continue", "pieces", "instruct", "\udcff"),
    "--engine": ("x", "Local", " ", "\udcff"),
    "--host": (" ", "no.such.host.invalid", "256.1.1.1", "a b", "\udcff"),
    "--api-key": (" ", "two words", "\udcff"),
    "--served-name": (" ", "\udcff"),
    "--allow-host": (" ", "\udcff"),
    "--cache-bytes": ("x", "-1", "25%", "2048", "1e9", "\udcff"),
    "--kv-bytes": ("x", "-1", "25%", "2048", "1e9", "\udcff"),
    "--max-body": ("x", "-1", "0", "25%", "2048", "\udcff"),
    "--memory": ("x", "1", "-1", "nan", "inf", "1e9", "0GiB", "256 parsecs", "\udcff"),
    "--buckets": ("x", "=", "64", "64=", "=100", "64=x", "64=100,64=100", "-64=100", "64=-100",
                  "0=100", "64=1e3", "64=100,,", "\udcff"),
    "batch --name": (" ", "\udcff"),
    "--gpt": ("x", "7B ", " ", "\udcff"),
    "--sizes": ("x", "3", "0", "-2", "2,,4", "1.5", "\udcff"),
    "--law": ("x", "chinchila", " ", "\udcff"),
    "--column": ("x", "=", "N=", "=N", "N=nope", "nope=N", "\udcff"),
    "--delta": ("x", "nan", "-1", "0", "-inf", "\udcff"),
    "--constants": ("x", "paper:x", "doc.txt", "data", "\udcff"),
    # X is what the law of the verb is asked for.
    "--at": ("x", "X", "X=", "=1", "X=x", "X=nan", "X=-1", "X=0", "X=inf", "nope=1", "X=1,X=2",
             "\udcff"),
    "--labels": (" ", ",", "yes", "yes,", "yes,Yes", "yes,no,yes", "--,yes", "\udcff"),
    "--set": ("x", "=", "nope=1", "\udcff"),
    "label --field": ("nope", "\udcff"),
    "--task": (" ", "nope", "\udcff"),
    "sequences answers --field": ("x", "=", "nope=1", "question=nope", "\udcff"),
}  # fmt: skip
PROMPT_NO_SUCH = (" ", "\n\t", "\udcff")
POSITIONAL: dict[Words, tuple[Words, ...]] = {
    ("compare",): tuple((bad,) for bad in ("", *NO_SUCH["--document"])),
    ("eval", "run"): ((), ("",), ("nedle",), ("needle/x",), ("needle(x=1)",), ("needle(",),
                      ("\udcff",)),
    ("eval", "show"): ((), ("",), ("nope",), ("doc.txt",), ("hollow",), ("zeros.bin",),
                       ("bad.jsonl",), ("some.run", "some.run")),
    ("eval", "tasks"): (("x",), ("",)),
    ("run",): tuple((bad,) for bad in ("", *PROMPT_NO_SUCH)),
    ("read",): tuple((bad,) for bad in ("", *NO_SUCH["--document"])),
    ("batch",): ((), ("requests.jsonl",), ("", "new.out"), ("requests.jsonl", ""),
                 ("nope.jsonl", "new.out"), ("empty.txt", "new.out"), ("hollow", "new.out"),
                 ("requests.jsonl", "requests.jsonl"), ("requests.jsonl", "latin.txt"),
                 ("requests.jsonl", "no/such/out"), ("requests.jsonl", "hollow"),
                 ("twice.jsonl", "new.out"), ("requests.jsonl", "new.out", "x")),
    ("write",): ((), ("",), (" ",), ("\udcff",), ("hi", "x")),
    ("label",): ((), ("items.jsonl",), ("", "Is it?"), ("items.jsonl", ""), ("items.jsonl", " "),
                 ("items.jsonl", "\udcff"), ("nope.jsonl", "Is it?"), ("empty.txt", "Is it?"),
                 ("blank.txt", "Is it?"), ("zeros.bin", "Is it?"), ("latin.txt", "Is it?"),
                 ("hollow", "Is it?"), ("bad.jsonl", "Is it?"),
                 ("prompts.jsonl", "Is it?"), ("~nope/x", "Is it?"),
                 ("items.jsonl", "Is it?", "x")),
    ("chat",): (("x",), ("",)),
    ("serve",): tuple((bad,) for bad in ("", *NO_SUCH["--model"])) + (("talker", "talker"),),
    ("methods",): (("kivy",), ("full",), ("",), ("kivi", "yarn"), ("\udcff",)),
    ("check",): tuple((bad,) for bad in ("", *NO_SUCH["--model"])) + (("model", "model"),),
    ("machine",): (("x",), ("",)),
    ("calibrate",): ((), ("x",), ("",), ("layer",), ("layers", "razor"), ("\udcff",)),
    ("bench", "drafting"): (("x",),),
    ("bench", "shelf"): tuple((bad,) for bad in ("", *NO_SUCH["--document"])),
    # A name that there is not is tried elsewhere: all tasks are looked through for the nearest.
    ("eval", "harness"): ((), ("",), (" ",), ("\udcff",), ("nope.yaml",), ("toy.yaml", ""),
                          ("hollow.yaml",), ("doc.yaml",), ("absent.yaml",), ("other.yaml",)),
    ("datastore", "build"): ((), ("",), ("~nope/x",), ("nope",), ("empty.txt",), ("zip.pdf",),
                             ("bad.jsonl",)),
    ("cartridge", "train"): tuple((bad,) for bad in ("", *NO_SUCH["--document"])),
    ("cartridge", "compose"): ((), ("",), ("nope",), ("doc.txt",), ("model/model.safetensors",),
                               ("some.cartridge", "doc.txt")),
    ("soft", "train"): ((), ("dolphin",), ("", "doc.txt"), ("dolfin", "doc.txt"),
                        ("dolphin(", "doc.txt"), ("dolphin(tokens=0)", "doc.txt"),
                        ("dolphin(layers=99)", "doc.txt"), ("extensible(ratios=0)", "doc.txt"),
                        *(("dolphin", bad) for bad in ("", *NO_SUCH["--document"]))),
    ("soft", "read"): tuple((bad,) for bad in ("", *NO_SUCH["--document"])),
    ("sequences", "build"): ((), ("",), ("nope",), ("empty.txt",), ("bad.jsonl",), ("no.parquet",),
                             ("hollow",), ("datasets:",)),
    ("sequences", "answers"): ((), ("",), ("nope",), ("empty.txt",), ("doc.txt",), ("hollow",),
                               ("bad.jsonl",), ("zeros.bin",), ("latin.txt",), ("deep.jsonl",)),
    ("sequences", "curriculum"): (("x",),),
    ("sequences", "show"): ((), ("",), ("nope",), ("doc.txt",), ("hollow",), ("data", "data")),
    ("train",): ((), ("",), ("nope.toml",), ("doc.txt",), ("hollow",), ("run.toml", "run.toml")),
    ("curves",): ((), ("",), ("nope",), ("doc.txt",), ("data",), ("run", "nope")),
    ("plan",): ((), ("",), ("nope",), ("empty.txt",), ("doc.txt",), ("zeros.bin",), ("hollow",),
                ("huge.txt",)),
    ("scaling", "laws"): (("x",), ("",), ("chinchilla", "x")),
    ("scaling", "fit"): ((), ("",), ("nope.csv",), ("doc.txt",), ("empty.txt",), ("zeros.bin",),
                         ("hollow",)),
    **{("scaling", verb): (("x",),) for verb in ("predict", "solve", "check")},
}  # fmt: skip

WRITTEN: tuple[Words, ...] = (
    ("nope",), ("comapre",), ("--nope",), ("-x",), ("Run", "hi"), ("",),
    ("datastore", "nope"), ("sequences", "biuld"), ("scaling", "fits"), ("bench", "x"),
    # Plans that are none, outputs of others.
    ("write", "hi", "-m", "talker", "-w", "50001"), ("write", "hi", "-m", "talker"),
    ("write", "hi", "-m", "talker", "-w", "4", "--plan", "doc.txt"),
    ("write", "hi", "-m", "talker", "-w", "4", "--plan", "empty.txt"),
    ("write", "hi", "-m", "talker", "-w", "4", "--plan", "zeros.bin"),
    ("write", "hi", "-m", "talker", "-w", "4", "--force"),
    ("write", "hi", "-m", "talker", "-w", "4", "-r", "bm25"),
    ("write", "hi", "-m", "talker", "-w", "4", "--top-p", "0.5"),
    ("write", "hi", "-m", "talker", "-w", "4", "-o", "doc.txt"),
    ("write", "hi", "-m", "talker", "-w", "4", "-o", "of_other"),
    ("write", "hi", "-m", "talker", "-w", "4", "--plan", "doc.txt", "-o", "doc.txt", "--force"),
    ("label", "items.jsonl", "Is it?", "-m", "talker", "-o", "doc.txt"),
    ("label", "items.jsonl", "Is it?", "-m", "talker", "-o", "items.jsonl", "--force"),
    ("label", "items.jsonl", "Is it?", "-m", "talker", "-r", "bm25"),
    ("label", "items.jsonl", "Is it?", "-m", "talker", "--force"),
    # Nothing to do with what is asked.
    ("run", "hi", "-m", "model", "--top-k", "5"), ("run", "hi", "-m", "model", "--top-p", "0.5"),
    ("run", "hi", "-m", "model", "--min-p", "0.1"), ("run", "hi", "-m", "model", "-n", "8"),
    ("run", "hi", "-m", "model", "--length", "8"),
    ("run", "hi", "-m", "model", "-d", "doc.txt", "--length", "99999"),
    ("run", "-d", "-"), ("run", "-m", "model"),
    ("run", "-q", "hi", "-m", "model", "--session", "doc.txt"),
    ("run", "-q", "hi", "-m", "model", "--session", "model/model.safetensors"),
    ("run", "-q", "hi", "-m", "model", "--session", "doc.txt", "-d", "doc.txt"),
    ("run", "-m", "model", "--session", "doc.txt"),
    ("read", "-m", "model", "--save", "new"), ("chat", "-m", "model"),
    ("read", "doc.txt", "-m", "model", "--save", "doc.txt", "--force"),
    ("read", "doc.txt", "-m", "model", "--save", "latin.txt"),
    ("read", "doc.txt", "-m", "model", "--save", "new", "-r", "sirllm(budget=25%)"),
    ("batch", "requests.jsonl", "new.out", "-m", "model", "--replicas", "2"),
    ("batch", "requests.jsonl", "hard.txt", "-m", "model"),
    ("batch", "requests.jsonl", "requests.jsonl", "-m", "model", "--force"),
    ("eval", "toy.yaml", "-m", "model", "--force"), ("eval", "toy.yaml", "-m", "model", "--chat"),
    ("eval", "toy.yaml", "-m", "model", "--out", "doc.txt"),
    ("eval", "toy.yaml", "-m", "model", "--out", "doc.txt", "--include-path", "."),
    ("eval", "toy.yaml", "-m", "model", "-r", "bm25"),
    ("eval", "toy.yaml", "-m", "model", "-r", "ape"),
    ("eval", "toy.yaml", "-m", "model", "--num-fewshot", "99"),
    ("eval", "toy.yaml", "-m", "model", "--max-length", "2"),
    ("eval", "toy.yaml", "-m", "openai:http://127.0.0.1:9/v1"),
    ("chat", "-m", "talker", "--session", "doc.txt"),
    ("chat", "-m", "talker", "--system", "x", "--session", "doc.txt"),
    ("compare", "doc.txt", "-m", "model", "-n", "99999"),
    ("compare", "doc.txt", "-m", "model", "-n", "64", "--probes"),
    ("compare", "doc.txt", "-m", "model", "--force"),
    ("check", "model", "--model", "model"),
    ("calibrate", "razor", "-o", "new"), ("calibrate", "layers", "-o", "new"),
    ("calibrate", "razor", "--force"), ("calibrate", "razor", "--trials", "3"),
    ("calibrate", "duo", "-o", "new"), ("calibrate", "duo", "--trials", "3"),
    ("calibrate", "razor", "--codes", "16"), ("calibrate", "a2ats", "--trials", "3"),
    ("calibrate", "specdec"), ("calibrate", "specdec", "-o", "no/such/head"),
    ("calibrate", "specdec", "-m", "model", "-o", "new", "--draft", "lookup"),
    ("bench", "drafting", "--prompt-file", "prompts.jsonl", "--context", "short"),
    ("compare", "doc.txt", "-m", "model", "--html", "~nope/x"),
    ("bench", "drafting", "--prompt-file", "~nope/x"),
    ("bench", "drafting", "--prompt-file", "empty.txt"), ("bench", "drafting", "--prompts", "99"),
    ("bench", "drafting", "--prompt-file", "bad.jsonl"),
    ("bench", "shelf", "--method", "snapkv + kivi"), ("bench", "shelf", "--method", "yarn"),
    ("bench", "shelf", "--method", "full"),
    ("bench", "shelf", "--method", "kivi", "--question", "codecs"),
    ("bench", "shelf", "doc.txt", "-m", "model", "-n", "99999"), ("bench", "shelf", "--force"),
    ("bench", "shelf", "doc.txt", "-m", "model", "-n", "64"),
    ("bench", "shelf", "-m", "model", "-n", "64", "--follow", "64"),
    ("bench", "shelf", "-m", "model", "--out", "doc.txt"),
    ("bench", "shelf", "doc.txt", "-m", "model", "--out", "doc.txt", "--force"),
    ("bench", "shelf", "-m", "model", "--picture", "foreign.png"),
    ("sequences", "show", "data", "--row", "99999"), ("sequences", "show", "data", "--bucket", "9"),
    ("sequences", "curriculum", "--tokens-per-step", "256"),
    ("sequences", "curriculum", "--tokens-per-step", "256", "--buckets", "64=9", "--data", "data"),
    ("sequences", "curriculum", "--tokens-per-step", "100", "--buckets", "64=100"),
    ("sequences", "build", "doc.txt", "--out", "new", "--method", "concat", "--order", "icp",
     "--encoder", "nope", "-t", "bytes"),
    ("sequences", "build", "doc.txt", "--out", "run", "--method", "concat", "-t", "bytes"),
    ("sequences", "build", "data", "--out", "data", "--method", "concat", "-t", "bytes"),
    ("sequences", "build", "doc.txt", "--out", "new", "--method", "concat", "-t", "bytes",
     "--tokens", "run"),
    *(("sequences", "answers", "pairs.jsonl", "--out", "new", "-t", "bytes", "--method",
       "retrieved", *more) for more in (
        (), ("-d", "nope.txt"), ("-d", "empty.txt"), ("-d", "zeros.bin"), ("-d", "hollow"),
        ("-d", "doc.txt", "-d", "doc.txt"), ("-d", "doc.txt", "--set", "recipe=full"),
        ("-d", "doc.txt", "--set", "recipe=snapkv"), ("-d", "doc.txt", "--set", "recipe=bm26"),
        ("-d", "doc.txt", "--set", "recipe="), ("-d", "doc.txt", "--set", "recipe=xl3m(budget=9)"),
        ("-d", "doc.txt", "--set", "recipe=dense(budget=9)"),
        ("-d", "doc.txt", "--set", "recipe=bm25(budget=1KB)"),
        ("-d", "doc.txt", "--set", "mixed=true"), ("-d", "doc.txt", "--set", "reasons=true"),
        ("-d", "doc.txt", "--set", "recipe=jrt", "--set", "negatives=random"),
    )),
    ("sequences", "answers", "pairs.jsonl", "--out", "texts", "-t", "bytes", "--method",
     "retrieved", "-d", "texts"),
    ("train", "bad.toml"), ("train", "model.toml"), ("train", "run.toml", "--out", "data"),
    ("train", "nodata.toml"),
    ("scaling", "fit", "runs.csv"), ("scaling", "fit", "runs.csv", "--law", "chinchilla"),
    ("scaling", "predict", "--law", "chinchilla", "--at", "N=7e9"),
    ("scaling", "solve", "--law", "converged", "--at", "N=1e9"),
    ("plan", "lengths.txt", "--devices", "8", "--memory-gib", "1"),
    ("plan", "lengths.txt", "--devices", "8", "--costs", "doc.txt"),
    ("plan", "lengths.txt", "--devices", "8", "--costs", "costs.json"),
    ("cartridge", "train", "doc.txt", "-m", "talker", "-o", "new", "-r", "snapkv"),
    ("cartridge", "train", "doc.txt", "-m", "talker", "-o", "new", "--tokens", "1"),
    ("cartridge", "train", "doc.txt", "-m", "talker", "-o", "new", "--min-chunk", "9999"),
    ("cartridge", "train", "doc.txt", "-m", "talker", "-o", "new", "--work", "texts"),
    ("cartridge", "train", "-m", "talker", "-o", "new"),
    ("cartridge", "compose", "some.cartridge", "-m", "model", "-o", "some.cartridge", "--force"),
    ("soft", "train", "dolphin(tokens=2,layers=1)", "doc.txt", "-m", "talker", "-o", "new"),
    ("soft", "train", "dolphin(tokens=2,layers=1)", "doc.txt", "-m", "talker", "-o", "new",
     "--length", "32", "--work", "texts"),
    ("soft", "train", "extensible(layers=1)", "doc.txt", "-m", "talker", "-o", "new"),
    ("soft", "read", "doc.txt", "-m", "talker", "-e", "some.cartridge", "--save", "new"),
    ("soft", "read", "doc.txt", "-m", "talker", "-e", "some.encoder", "--save", "new", "--ratio",
     "2"),
    ("soft", "read", "doc.txt", "-m", "talker", "-e", "some.encoder", "--save", "new", "-r",
     "kvzip(instruct=false)"),
    ("soft", "read", "doc.txt", "-m", "talker", "-e", "some.encoder", "--save", "some.encoder",
     "--force"),
    # An output that is an input, under its own name and others.
    ("compare", "doc.txt", "-m", "model", "--html", "doc.txt"),
    ("compare", "doc.txt", "-m", "model", "--html", "doc.txt", "--force"),
    ("compare", "doc.txt", "-m", "model", "--html", "link.txt", "--force"),
    ("compare", "doc.txt", "-m", "model", "--html", "hard.txt", "--force"),
    ("compare", "doc.txt", "-m", "model", "--html", "./hollow/../doc.txt", "--force"),
    ("compare", "doc.txt", "-m", "model", "--html", "model/config.json", "--force"),
    ("datastore", "build", "doc.txt", "-m", "model", "-o", "doc.txt"),
    ("datastore", "build", "texts", "-m", "model", "-o", "texts/a.txt", "--force"),
    ("scaling", "fit", "runs.csv", "--law", "converged", "--save", "runs.csv"),
    ("scaling", "fit", "runs.csv", "--law", "converged", "--save", "runs.csv", "--force"),
    ("scaling", "fit", "runs.csv", "--law", "converged", "--save", "x.png", "--out", "x.png"),
    # One that is not ours.
    ("scaling", "fit", "runs.csv", "--law", "converged", "--save", "deep.json"),
    ("scaling", "predict", "--constants", "deep.json", "--at", "N=1"),
    ("scaling", "fit", "deep.json", "--law", "converged"),
    ("plan", "lengths.txt", "--devices", "8", "--costs", "deep.json"),
    ("bench", "drafting", "--prompt-file", "deep.json"),
    ("run", "doc.txt", "-q", "?", "-m", "model", "--device-map", "deep.json"),
    ("compare", "doc.txt", "-m", "model", "--qa", "deep.jsonl"),
    ("datastore", "build", "deep.jsonl", "-m", "model", "-o", "new"),
    ("sequences", "build", "deep.jsonl", "--out", "new", "--method", "concat", "-t", "bytes"),
    ("compare", "doc.txt", "-m", "model", "--html", "latin.txt"),
    ("datastore", "build", "doc.txt", "-m", "model", "-o", "latin.txt"),
    ("scaling", "fit", "runs.csv", "--law", "converged", "--save", "latin.txt"),
    ("scaling", "fit", "runs.csv", "--law", "converged", "--out", "foreign.png"),
    ("curves", "run", "--out", "foreign.png"), ("curves", "run", "--out", "x.jpg"),
    ("sequences", "curriculum", "--tokens-per-step", "256", "--buckets", "64=9", "-o",
     "foreign.png"),
    # No place for a file.
    ("compare", "doc.txt", "-m", "model", "--html", "/dev/null"),
    ("compare", "doc.txt", "-m", "model", "--html", "x" * 255),
    ("compare", "doc.txt", "-m", "model", "--html", "x" * 300),
    ("curves", "run", "--out", "/proc/x.png"),
)  # fmt: skip


def commands(
    command: click.Command = group, path: Words = ()
) -> Iterator[tuple[Words, click.Command]]:
    """Every verb that does something, with the words that call it."""
    if not isinstance(command, click.Group):
        yield path, command
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        below = command.get_command(context, name)
        assert below is not None
        yield from commands(below, (*path, name))


def generated() -> Iterator[Words]:
    """Bad values for every option of every verb, and what is no option or too much."""
    for path, command in commands():
        right = RIGHT[path]
        yield (*path, *right, "--nope")
        for given in POSITIONAL[path]:
            yield (*path, *given, *_options_of(path, command))
        for parameter in command.params:
            if not isinstance(parameter, click.Option):
                continue
            option = max(parameter.opts, key=len)
            if parameter.is_flag:
                yield (*path, *right, f"{option}=x")
                continue
            yield (*path, *right, option)
            for bad in _bad_values(path, parameter, option):
                yield (*path, *right, option, bad)


def _options_of(path: Words, command: click.Command) -> Words:
    """The right command of a verb from its first option on."""
    right = RIGHT[path]
    first = next((n for n, word in enumerate(right) if word.startswith("-")), len(right))
    return right[first:]


def _bad_values(path: Words, parameter: click.Option, option: str) -> Iterator[str]:
    kind = parameter.type
    if isinstance(kind, Place):
        yield ""
        folder = parameter.name in FOLDERS.get(path, ())
        if parameter.name in WRITTEN_TO:
            yield "no/such/folder/x.png"
            yield "doc.txt" if folder else "hollow"
        else:
            yield "no/such"
            yield "doc.txt" if not kind.file_okay else "hollow"
    elif isinstance(kind, (click.IntRange, click.FloatRange)):
        yield from ("", "x", "1e", "--", "1,000", "nan")
        whole = isinstance(kind, click.IntRange)
        yield from ("1.5", "9" * 20, "1e3", "9" * 5000) if whole else ("inf", "-inf", "1e999")
        step = 1 if whole else 0.5
        for edge, beyond in ((kind.min, -step), (kind.max, step)):
            if edge is not None:
                yield str(edge + beyond)
    elif isinstance(kind, click.Choice):
        yield from ("", "x", "\udcff")
    else:
        asked = "C" if "solve" in path else "N"
        values = NO_SUCH.get(f"{' '.join(path)} {option}", NO_SUCH.get(option, ()))
        yield from ("", *(v.replace("X", asked) if option == "--at" else v for v in values))


def numbers_without_range() -> list[str]:
    """Options that take any number at all: the generated cases cannot know what is too much."""
    found = []
    for path, command in commands():
        for parameter in command.params:
            kind = parameter.type
            number = kind in (click.INT, click.FLOAT) or isinstance(
                kind, (click.IntRange, click.FloatRange)
            )
            if number and not isinstance(kind, (Whole, Real)):
                found.append(" ".join((*path, *parameter.opts)))
    return found
