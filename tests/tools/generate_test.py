"""Tests of //tools:generate as a user runs it."""

import json
import os
import subprocess
import unittest

from tests.harness import run_cases
from tests.tools import tools

_TEXT = "the cat sat on the mat \u00e9\u00e9\u00e9 \u4e2d\u6587 the cat \U0001f600 sat on the mat\n" * 3


def _runs(name):
    with open(os.path.join(tools.golden("generate"), name + ".json"), encoding="utf-8") as f:
        return json.load(f)


def _comma(ids):
    return ",".join(map(str, ids))


class GenerateTest(unittest.TestCase, tools.ToolTest):

    @classmethod
    def setUpClass(cls):
        cls.folder = tools.folder_with_tokenizer(_TEXT, 290)

    def generate(self, *args):
        done = tools.run("generate", "--model=" + self.folder, *args)
        self.assertEqual(done.code, 0, done.err)
        return done

    def fails(self, code, args, *parts, model=None):
        done = tools.run("generate", "--model=" + (model or self.folder), *args)
        self.assert_fails(done, code, *parts)

    def test_common(self):
        self.assert_common("generate")

    def test_goldens(self):
        for name in ("gpt2_tiny", "gpt2_options", "mamba_auto", "mamba2_tiny"):
            runs = _runs(name)
            for row, prompt in enumerate(runs["prompts"]):
                args = ["--model=" + tools.golden(name), "--tokens=" + _comma(prompt), "--json",
                        "--max_new_tokens=%d" % runs["max_new_tokens"], "--stop_at_eos=false"]
                greedy = tools.run("generate", "--temperature=0", *args).json()
                self.assertEqual(greedy["tokens"], runs["greedy"][row])
                self.assertEqual(greedy["prompt_tokens"], prompt)
                self.assertEqual(len(greedy["logprobs"]), len(greedy["tokens"]))
                self.assertTrue(all(p <= 0 for p in greedy["logprobs"]))
                self.assertEqual(set(greedy["seconds"]), {"load", "prefill", "decode"})
                self.assertIsNone(greedy["text"])  # no tokenizer
                if "beams" not in runs:
                    continue
                beams = tools.run("generate", "--num_beams=3", *args).json()
                self.assertEqual(beams["tokens"], runs["beams"][row][0]["tokens"])
                for beam, want in zip(beams["beams"], runs["beams"][row]):
                    self.assertEqual(beam["tokens"], want["tokens"])
                    self.assertAlmostEqual(beam["score"], want["score"], places=4)

    def test_ids_are_printed_without_a_tokenizer(self):
        runs = _runs("gpt2_tiny")
        done = tools.run("generate", "--model=" + tools.golden("gpt2_tiny"), "--temperature=0",
                         "--tokens=" + _comma(runs["prompts"][0]), "--max_new_tokens=12",
                         "--stop_at_eos=false")
        self.assertEqual([int(t) for t in done.out.split()], runs["greedy"][0])

    def test_text_is_what_the_tokens_say(self):
        for args in (["--temperature=0"], ["--seed=4"], ["--num_beams=3"]):
            args += ["--prompt=the cat", "--max_new_tokens=30"]
            result = self.generate(*args, "--json").json()
            decoded = tools.run("tokenize", "--tokenizer=" + self.folder, "--decode",
                                stdin=json.dumps([t for t in result["tokens"] if t < 290]).encode())
            self.assertEqual(result["text"], decoded.json())
            self.assertEqual(self.generate(*args).out.decode(), result["text"] + "\n")
            encoded = tools.run("tokenize", "--tokenizer=" + self.folder, stdin=b'"the cat"')
            self.assertEqual(result["prompt_tokens"], encoded.json())

    def test_texts_begin_as_the_tokenizer_says(self):
        folder = tools.folder_with_tokenizer(_TEXT, 290)
        tools.begin_texts_with(folder, 260)
        args = ["generate", "--model=" + folder, "--json", "--temperature=0", "--max_new_tokens=3"]
        encoded = tools.run("tokenize", "--tokenizer=" + folder, stdin=b'"the cat"').json()
        self.assertEqual(
            tools.run("tokenize", "--tokenizer=" + folder, "--add_special_tokens",
                      stdin=b'"the cat"').json(), [260] + encoded)
        begun = tools.run(*args, "--prompt=the cat").json()
        self.assertEqual(begun["prompt_tokens"], [260] + encoded)
        self.assertEqual(begun["tokens"],
                         tools.run(*args, "--tokens=" + _comma([260] + encoded)).json()["tokens"])
        plain = tools.run(*args, "--prompt=the cat", "--add_special_tokens=false").json()
        self.assertEqual(plain["prompt_tokens"], encoded)
        # A text that goes on has begun already.
        state = os.path.join(os.environ["TEST_TMPDIR"], "begun")
        tools.run(*args, "--prompt=the", "--save_state=" + state, "--max_new_tokens=0")
        went_on = tools.run(*args, "--prompt= cat", "--load_state=" + state).json()
        self.assertEqual(went_on["prompt_tokens"].count(260), 1)

    def test_streams_whole_characters(self):
        # A random model makes bytes that are half a character all the time. Short writes to a pipe
        # arrive whole, so every read holds one write or several.
        with subprocess.Popen(
                ["tools/generate", "--model=" + self.folder, "--prompt=\u4e2d", "--seed=2",
                 "--max_new_tokens=60"], stdout=subprocess.PIPE) as process:
            reads = []
            while True:
                part = os.read(process.stdout.fileno(), 4096)
                if not part:
                    break
                reads.append(part.decode())  # raises for half a character
        self.assertEqual(process.returncode, 0)
        self.assertGreater(len("".join(reads)), 20)
        self.assertTrue("".join(reads).endswith("\n"))

    def test_a_seed_is_the_same_for_any_number_of_threads(self):
        args = ["--prompt=the", "--max_new_tokens=20", "--json", "--top_p=0.9"]
        first = self.generate(*args, "--seed=5", "--threads=1").json()
        for threads in (2, 3):
            again = self.generate(*args, "--seed=5", "--threads=%d" % threads).json()
            self.assertEqual((again["tokens"], again["logprobs"]),
                             (first["tokens"], first["logprobs"]))
        self.assertNotEqual(self.generate(*args, "--seed=6").json()["tokens"], first["tokens"])

    def test_sampling_flags_narrow_the_choice(self):
        greedy = self.generate("--prompt=the", "--temperature=0", "--max_new_tokens=12",
                               "--json").json()["tokens"]
        for flag in ("--top_k=1", "--top_p=1e-9", "--min_p=1", "--temperature=1e-6"):
            tokens = self.generate("--prompt=the", "--seed=3", "--max_new_tokens=12", "--json",
                                   flag).json()["tokens"]
            self.assertEqual(tokens, greedy, flag)
        penalized = self.generate("--prompt=the", "--temperature=0", "--max_new_tokens=12",
                                  "--json", "--repetition_penalty=1e6").json()["tokens"]
        self.assertEqual(len(set(penalized)), 12)
        self.assertLess(len(set(greedy)), 12)

    def test_ends(self):
        result = self.generate("--prompt=the", "--max_new_tokens=1000", "--temperature=0", "--json",
                               "--stop_at_eos=false").json()
        self.assertEqual(result["end"], "context_full")
        self.assertEqual(len(result["prompt_tokens"]) + len(result["tokens"]), 65)
        self.assertEqual(self.generate("--prompt=the", "--max_new_tokens=0").out, b"\n")

    def test_stops_at_eos(self):
        args = ["--prompt=the cat", "--temperature=0", "--json", "--max_new_tokens=12"]
        tokens = self.generate(*args, "--stop_at_eos=false").json()["tokens"]
        config = os.path.join(self.folder, "generation_config.json")
        with open(config, "w", encoding="utf-8") as f:
            json.dump({"eos_token_id": [tokens[3], 310]}, f)
        try:
            stopped = self.generate(*args).json()
            self.assertEqual(stopped["tokens"], tokens[:tokens.index(tokens[3]) + 1])
            self.assertEqual(stopped["end"], "eos")
            self.assertEqual(self.generate(*args, "--nostop_at_eos").json()["tokens"], tokens)
        finally:
            os.remove(config)

    def test_stop_strings(self):
        args = ["--prompt=the cat", "--seed=1", "--max_new_tokens=40"]
        text = self.generate(*args, "--json").json()["text"]
        stop = text[10:13]
        stopped = self.generate(*args, "--stop=" + stop, "--json").json()
        self.assertEqual(stopped["text"], text[:text.index(stop)])
        self.assertEqual(stopped["end"], "stop")
        self.assertEqual(self.generate(*args, "--stop=" + json.dumps(["never there", stop])).out,
                         (text[:text.index(stop)] + "\n").encode())

    def test_several_prompts_are_as_one_by_one(self):
        prompts = ["the cat", [1, 2, 3, 4, 5, 6, 7, 8, 9], "\u00e9"]
        path = tools.write("prompts.jsonl", "".join(json.dumps(p) + "\n" for p in prompts))
        together = self.generate("--prompts=" + path, "--temperature=0",
                                 "--max_new_tokens=9").lines()
        self.assertEqual(len(together), 3)
        for prompt, got in zip(prompts, together):
            flag = "--prompt=" + prompt if isinstance(prompt, str) else "--tokens=" + _comma(prompt)
            alone = self.generate(flag, "--temperature=0", "--max_new_tokens=9", "--json").json()
            self.assertEqual((got["tokens"], got["text"]), (alone["tokens"], alone["text"]))

    def test_a_saved_state_goes_on_as_if_never_interrupted(self):
        state = tools.write("state", "")
        for flags in (["--temperature=0"], ["--seed=7", "--repetition_penalty=1.2"]):
            flags += ["--json", "--stop_at_eos=false"]
            whole = self.generate("--prompt=the cat", "--max_new_tokens=20", *flags).json()
            first = self.generate("--prompt=the cat", "--max_new_tokens=8",
                                  "--save_state=" + state, *flags).json()
            # Twice from the same file, the second time on one thread.
            for more in ([], ["--threads=1", "--save_state=" + state]):
                rest = self.generate("--load_state=" + state, "--max_new_tokens=5", *flags,
                                     *more).json()
                self.assertEqual(rest["prompt_tokens"], first["prompt_tokens"] + first["tokens"])
                self.assertEqual(rest["tokens"], whole["tokens"][8:13])
                self.assertEqual(rest["logprobs"], whole["logprobs"][8:13])
            last = self.generate("--load_state=" + state, "--max_new_tokens=7", *flags).json()
            self.assertEqual(last["logprobs"], whole["logprobs"][13:])

    def test_a_prompt_is_read_once_for_many_questions(self):
        state = tools.write("state", "")
        flags = ["--temperature=0", "--max_new_tokens=6", "--json"]
        read = self.generate("--tokens=1,2,3,4", "--max_new_tokens=0", "--json",
                             "--save_state=" + state).json()
        self.assertEqual(read["tokens"], [])
        for more in ("7,8,9", "5"):
            got = self.generate("--load_state=" + state, "--tokens=" + more, *flags).json()
            want = self.generate("--tokens=1,2,3,4," + more, *flags).json()
            self.assertEqual(got["prompt_tokens"], want["prompt_tokens"])
            self.assertEqual(got["tokens"], want["tokens"])

    def test_states_that_cannot_be_used(self):
        state = tools.write("state", "")
        self.generate("--prompt=the cat", "--max_new_tokens=3", "--save_state=" + state)
        load = ["--load_state=" + state]
        self.fails(1, load, state, "'d_model' is", "expected", model=tools.golden("gpt2_options"))
        two = tools.write("two.jsonl", "[1]\n[2]\n")
        self.fails(1, load + ["--prompts=" + two], state, "1 texts", "2")
        # These fail after the text is out.
        for args, part in ((["--tokens=1", "--save_state=" + state], "nothing was read"),
                           (["--tokens=1,2", "--save_state=/no/such/state"], "/no/such/state")):
            done = tools.run("generate", "--model=" + self.folder, "--max_new_tokens=0", *args)
            self.assertEqual((done.code, done.out), (1, b"\n"))
            self.assertIn(part, done.err)
        self.fails(1, ["--load_state=/no/such/state"], "/no/such/state")
        self.fails(2, load + ["--num_beams=2"], "--load_state", "--num_beams=1")
        with open(state, "rb") as f:
            data = f.read()
        with open(state, "wb") as f:
            f.write(data[:-1])
        self.fails(1, load, state)

    def test_bad_usage(self):
        self.fails(2, [], "--prompt", "--tokens", "none")
        self.fails(2, ["--prompt="])
        self.fails(2, ["--tokens="])
        self.fails(2, ["--prompt=a", "--tokens=1"], "several")
        self.fails(2, ["--tokens=1,two"], "'two'", "integer")
        for flag, part in (("--temperature=-1", "[0, "), ("--top_p=1.5", ", 1]"),
                           ("--top_k=-1", "[0, "), ("--min_p=2", "[0, 1]"),
                           ("--repetition_penalty=0", "expected"), ("--max_new_tokens=-1", "[0, "),
                           ("--num_beams=0", "[1, "), ("--early_stopping=maybe", "never"),
                           ("--temprature=1", "temperature"), ("--stop=[1]", "JSON list"),
                           ("--stop=[", "JSON list")):
            self.fails(2, ["--prompt=a", flag], flag.split("=")[0][2:], part)
        self.fails(2, ["--prompt=a", "--num_beams=2", "--top_k=3"], "--top_k")
        self.fails(2, ["--prompt=a", "--num_beams=2", "--stop=x"], "--stop")

    def test_failures(self):
        self.fails(1, ["--tokens=1,311"], "token 311 at position 1", "vocabulary of 311")
        self.fails(1, ["--tokens=-1"], "token -1", "vocabulary of 311")
        self.fails(1, ["--tokens=" + _comma(range(65))], "65 tokens", "context of 64")
        self.fails(1, ["--prompt=a"], "no tokenizer", "--tokens", model=tools.golden("gpt2_tiny"))
        self.fails(1, ["--tokens=1", "--stop=x"], "no tokenizer", model=tools.golden("gpt2_tiny"))
        self.fails(1, ["--prompt=a"], "/no/such/model", model="/no/such/model")
        self.fails(1, ["--prompts=/no/such/file"], "/no/such/file")
        self.fails(1, ["--prompts=" + tools.write("p", "hello\n")], "line 1", "JSON")

    def test_a_tokenizer_that_cannot_be_read(self):
        folder = tools.folder_with_tokenizer(_TEXT, 260)
        with open(os.path.join(folder, "tokenizer.json"), "w", encoding="utf-8") as f:
            f.write("{\"model\": {\"type\": \"Magic\"}}")
        self.fails(1, ["--prompt=a"], "tokenizer.json", "Magic", model=folder)
        # Ids need none: a warning.
        done = tools.run("generate", "--model=" + folder, "--tokens=1", "--json")
        self.assertEqual(done.code, 0)
        self.assertIn("Magic", done.err)
        self.assertIsNone(done.json()["text"])


if __name__ == "__main__":
    run_cases.main()
