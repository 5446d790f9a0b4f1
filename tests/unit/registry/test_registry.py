"""The registry: what is read, from where, and what is said about what cannot be read."""

from pathlib import Path

import pytest

import cf_local
from cf_local.errors import ConfigError
from cf_local.loading.load_options import LoadOptions
from cf_local.planning.nodes import Placement
from cf_local.registry.registry import CONFIG_VARIABLE, _builtin_file, load_registry
from cf_local.settings import Settings


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No layer but the built-in one: an empty project folder and no user file."""
    project = tmp_path / "project"
    project.mkdir()
    monkeypatch.chdir(project)
    monkeypatch.delenv(CONFIG_VARIABLE, raising=False)
    monkeypatch.setattr(
        "cf_local.registry.registry.user_file", lambda: tmp_path / "user" / "models.toml"
    )
    return tmp_path


def write(path: Path, text: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def project_error(folders: Path, text: str | bytes) -> str:
    write(folders / "project" / "models.toml", text)
    with pytest.raises(ConfigError) as caught:
        load_registry()
    return str(caught.value)


@pytest.mark.usefixtures("folders")
class TestBuiltIn:
    def test_default_fuses_the_three_built_in_sources(self) -> None:
        fusion = load_registry().fusion()
        assert fusion.name == "builtin"
        assert fusion.sources == ("ash", "birch", "cedar")
        assert fusion.settings == Settings()
        assert fusion.origin == "built in"

    def test_built_in_files_lie_in_the_package(self) -> None:
        path = load_registry().source("ash").local_path
        assert path == Path(cf_local.__file__).parent / "builtin" / "ash.gguf"

    def test_the_papers_models_are_there(self) -> None:
        assert load_registry().fusion("paper").sources == (
            "llama-3-8b",
            "phi-3-mini-128k",
            "glm-4-9b",
        )

    def test_every_source_to_download_says_what_it_is(self) -> None:
        registry = load_registry()
        remote = [spec for spec in registry.sources.values() if spec.repo]
        assert len(remote) >= 9
        for spec in remote:
            assert spec.repo is not None
            assert spec.repo.count("/") == 1
            assert spec.file.endswith(".gguf")
            assert spec.licence
            assert spec.size_bytes
            assert spec.local_path is None

    def test_laptop_sources_are_below_2_5_gigabytes_each(self) -> None:
        registry = load_registry()
        for fusion in ("laptop", "laptop-open", "laptop-small"):
            for name in registry.fusion(fusion).sources:
                assert (registry.source(name).size_bytes or 0) < 2.5e9

    def test_an_installed_copy_is_used_before_the_one_of_a_checkout(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        package = tmp_path / "site" / "cf_local"
        text = '[sources.x]\nfile = "builtin:x.gguf"\n[fusions.f]\nsources = ["x"]\n'
        write(package.parent / "models.toml", "no = 1")
        write(package / "models.toml", 'default = "f"\n' + text)
        monkeypatch.setattr("cf_local.registry.registry._PACKAGE", package)
        assert list(load_registry().sources) == ["x"]

    def test_a_damaged_installation_is_said_to_be_one(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("cf_local.registry.registry._PACKAGE", tmp_path / "nowhere")
        with pytest.raises(ConfigError, match="built in: cannot be read"):
            load_registry()


class TestLayers:
    def test_later_layers_win_entry_by_entry_and_say_where_they_are_from(
        self, folders: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        user = write(folders / "user/models.toml", '[sources.ash]\nfile = "/user/ash.gguf"\n')
        project = write(
            folders / "project/models.toml",
            '[sources.ash]\nfile = "mine/ash.gguf"\ncontext = 512\n'
            '[fusions.pair]\nsources = ["ash", "birch"]\nmode = "rerank"\n'
            "weights = {ash = 2, birch = 0.5}\n",
        )
        extra = write(folders / "extra.toml", 'default = "pair"\n[sources.new]\nfile = "/n.gguf"\n')
        monkeypatch.setenv(CONFIG_VARIABLE, str(extra))

        registry = load_registry()

        assert registry.files == ("built in", str(user), str(project), str(extra))
        ash = registry.source("ash")
        assert ash.local_path == folders.resolve() / "project" / "mine" / "ash.gguf"
        assert (ash.context, ash.licence, ash.origin) == (512, None, str(project))
        assert registry.source("birch").origin == "built in"
        assert registry.source("new").origin == str(extra)
        assert registry.fusion().name == "pair"
        assert registry.fusion().settings.weights == {"ash": 2.0, "birch": 0.5}
        assert registry.fusion("builtin").sources == ("ash", "birch", "cedar")

    @pytest.mark.parametrize("weights", ["size", "equal"])
    def test_weights_may_be_a_word(self, folders: Path, weights: str) -> None:
        text = f'[fusions.f]\nsources = ["ash", "birch"]\nweights = "{weights}"\n'
        write(folders / "user/models.toml", text)
        assert load_registry().fusion("f").settings.weights == weights

    def test_a_bias_is_for_texts_not_for_sources(self, folders: Path) -> None:
        text = '[fusions.f]\nsources = ["ash"]\nlogit_bias = {" the dog" = -100, fox = 1.5}\n'
        write(folders / "user/models.toml", text)
        sampling = load_registry().fusion("f").settings.sampling
        assert sampling.logit_bias == {" the dog": -100, "fox": 1.5}

    @pytest.mark.parametrize(
        ("bias", "problem"),
        [
            ("{fox = 101}", "line 3: logit_bias: fox is 101; it must be between -100 and 100"),
            ('{fox = "1"}', "line 3: logit_bias: '1' is not a number"),
            ('{"" = 1}', "line 3: logit_bias: a text is empty"),
            ('"fox"', "line 3: logit_bias must be a table, not 'fox'"),
        ],
    )
    def test_a_bias_that_makes_no_sense(self, folders: Path, bias: str, problem: str) -> None:
        text = f'[fusions.f]\nsources = ["ash"]\nlogit_bias = {bias}\n'
        write(folders / "user/models.toml", text)
        with pytest.raises(ConfigError, match=problem):
            load_registry()

    def test_a_user_file_is_enough(self, folders: Path) -> None:
        write(folders / "user/models.toml", '[fusions.solo]\nsources = ["ash"]\n')
        assert load_registry().fusion("solo").sources == ("ash",)

    def test_a_fusion_of_one_layer_may_use_sources_of_any_other(
        self, folders: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write(folders / "user/models.toml", '[fusions.f]\nsources = ["late"]\n')
        extra = write(folders / "extra.toml", '[sources.late]\nfile = "late.gguf"\n')
        monkeypatch.setenv(CONFIG_VARIABLE, str(extra))
        assert load_registry().fusion("f").sources == ("late",)

    def test_in_a_checkout_the_projects_file_is_the_built_in_one(
        self, folders: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        builtin = _builtin_file()
        monkeypatch.chdir(builtin.parent)
        assert load_registry().files == ("built in",)

    def test_a_file_of_the_hub_is_no_path(self, folders: Path) -> None:
        write(folders / "user/models.toml", '[sources.h]\nrepo = "org/repo"\nfile = "m.gguf"\n')
        spec = load_registry().source("h")
        assert (spec.file, spec.local_path) == ("m.gguf", None)

    def test_the_named_file_must_exist(
        self, folders: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(CONFIG_VARIABLE, str(folders / "gone.toml"))
        with pytest.raises(ConfigError, match=r"gone\.toml: cannot be read: No such file"):
            load_registry()


SOURCE = '[sources.mine]\nfile = "m.gguf"\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            SOURCE + "contxt = 5\n",
            "line 3: unknown key 'contxt' (did you mean 'context'?).",
        ),
        (
            SOURCE + 'license = "MIT"\n',
            "line 3: unknown key 'license' (did you mean 'licence'?).",
        ),
        ("\n[source.mine]\n", "line 2: unknown key 'source' (did you mean 'sources'?)."),
        ("zzzz = 1\n", "line 1: unknown key 'zzzz'."),
        (SOURCE + 'context = "5"\n', "line 3: context must be a whole number, not '5'."),
        (SOURCE + "context = true\n", "line 3: context must be a whole number, not True."),
        (SOURCE + "context = 0\n", "line 3: context is 0; it must be at least 1."),
        (SOURCE + "gpu_layers = -2\n", "line 3: gpu_layers is -2; it must be at least -1."),
        (
            SOURCE + 'where = "there"\n',
            "line 3: where is 'there' (did you mean 'here'?); it must be one of here, ray.",
        ),
        (SOURCE + "ray = 3\n", "line 3: ray must be a table, not 3."),
        (
            SOURCE + "ray = { num_cpu = 8 }\n",
            "line 3: unknown key 'num_cpu' (did you mean 'num_cpus'?).",
        ),
        (
            SOURCE + 'ray = { memory = "much" }\n',
            "line 3: memory: 'much' is not a size; write it as 500MB or 4GB.",
        ),
        (
            SOURCE + "ray = { num_gpus = -1 }\n",
            "line 3: num_gpus: -1 is not a number of at least 0.",
        ),
        (
            SOURCE + 'ray = { resources = { big = "yes" } }\n',
            "line 3: resources.big: 'yes' is not a number of at least 0.",
        ),
        (
            SOURCE + "ray = { labels = { zone = 3 } }\n",
            "line 3: labels.zone: 3 is not text.",
        ),
        ("[sources]\nmine = 3\n", "line 2: sources.mine must be a table."),
        ("sources = 3\n", "line 1: sources must be a table, not 3."),
        ("[sources.mine]\n", "line 1: source 'mine' names no file."),
        (
            '[sources."a/b"]\nfile = "m.gguf"\n',
            "line 1: 'a/b' is not a valid name: use letters, digits, dot, - and _, "
            "and do not end it in .gguf.",
        ),
        (
            "[sources.'m.gguf']\nfile = \"m.gguf\"\n",
            "line 1: 'm.gguf' is not a valid name: use letters, digits, dot, - and _, "
            "and do not end it in .gguf.",
        ),
        (
            '[fusions.f]\nsources = ["ahs"]\n',
            "line 2: no source is named 'ahs' (did you mean 'ash'?).",
        ),
        ("[fusions.f]\nsources = [1]\n", "line 2: sources must be a list of names, not 1."),
        (
            '[fusions.f]\nmode = "cool"\n',
            "line 1: fusion 'f' must name one or more sources, each once.",
        ),
        (
            '[fusions.f]\nsources = ["ash", "ash"]\n',
            "line 2: fusion 'f' must name one or more sources, each once.",
        ),
        (
            '[fusions.f]\nsources = ["ash"]\nmode = "cold"\n',
            "line 3: mode is 'cold' (did you mean 'cool'?); "
            "it must be one of cool, rerank, cool+r, single.",
        ),
        (
            '[fusions.f]\nsources = ["ash"]\nscore = "ppl"\n',
            "line 3: score is 'ppl'; it must be one of mixture, nll, perplexity, bits_per_byte.",
        ),
        (
            '[fusions.f]\nsources = ["ash"]\nsegments = "words"\n',
            "line 3: segments is 'words'; it must be one of aligned, shortest, sentence.",
        ),
        (
            '[fusions.f]\nsources = ["ash"]\nsegment_words = 0\n',
            "line 3: segment_words is 0; it must be at least 1.",
        ),
        (
            '[fusions.f]\nsources = ["ash"]\nsegments = "sentence"\nsegment_words = 2\n',
            "line 4: segment_words is 2, but segments 'sentence' do not count words. "
            "Leave one of them out.",
        ),
        (
            '[fusions.f]\nsources = ["ash"]\nonly = "asch"\n',
            "line 3: only: 'asch' is not one of its sources (did you mean 'ash'?).",
        ),
        (
            '[fusions.f]\nsources = ["ash"]\nweights = {oak = 2}\n',
            "line 3: weights: 'oak' is not one of its sources.",
        ),
        (
            '[fusions.f]\nsources = ["ash"]\nweights = {ash = 0}\n',
            "line 3: one of the weights must be above 0.",
        ),
        (
            '[fusions.f]\nsources = ["ash"]\nweights = {ash = nan}\n',
            "line 3: weights: ash is nan; it must be at least 0.",
        ),
        (
            '# the default\n\ndefault = "builtn"\n',
            "line 3: default is 'builtn', but no fusion has that name (did you mean 'builtin'?).",
        ),
        (b'# caf\xe9\ndefault = "builtin"\n', "line 1: this is not UTF-8 text."),
    ],
)
def test_errors_name_file_line_and_nearest(folders: Path, text: str, message: str) -> None:
    file = folders / "project" / "models.toml"
    assert project_error(folders, text) == f"{file}, {message}"


def test_broken_toml_says_where(folders: Path) -> None:
    message = project_error(folders, "default = 'builtin'\n[sources.x\n")
    assert message.startswith(f"{folders / 'project' / 'models.toml'}: this is not valid TOML: ")
    assert "line 2" in message


def test_without_a_findable_line_the_file_is_named(folders: Path) -> None:
    file = folders / "project" / "models.toml"
    message = project_error(folders, 'sources.mine = { file = "m.gguf", contxt = 1 }\n')
    assert message == f"{file}: unknown key 'contxt' (did you mean 'context'?)."


def test_a_folder_is_no_file(folders: Path) -> None:
    (folders / "project" / "models.toml").mkdir()
    with pytest.raises(ConfigError, match="cannot be read"):
        load_registry()


@pytest.mark.usefixtures("folders")
class TestUnknownNames:
    def test_nearest_source(self) -> None:
        with pytest.raises(ConfigError) as caught:
            load_registry().source("Birch")
        assert str(caught.value) == (
            "No source is named 'Birch' (did you mean 'birch'?). `cf-local list` shows all."
        )

    def test_nearest_fusion(self) -> None:
        with pytest.raises(
            ConfigError, match=r"No fusion is named 'laptp' \(did you mean 'laptop'\?\)"
        ):
            load_registry().fusion("laptp")

    def test_a_fusion_is_no_source(self) -> None:
        with pytest.raises(ConfigError, match=r"No source is named 'paper' \(it is a fusion\)"):
            load_registry().source("paper")

    def test_a_source_is_no_fusion(self) -> None:
        with pytest.raises(ConfigError, match=r"No fusion is named 'ash' \(it is a source\)"):
            load_registry().fusion("ash")

    def test_exit_code_is_that_of_usage(self) -> None:
        with pytest.raises(ConfigError) as caught:
            load_registry().source("nothing-like-it")
        assert caught.value.exit_code == 2


class TestEmbeddingModels:
    def test_keys(self, folders: Path) -> None:
        write(
            folders / "project" / "models.toml",
            '[sources.mine]\nfile = "a.gguf"\nkind = "embedding"\npooling = "last"\n',
        )
        registry = load_registry()
        assert (registry.source("mine").kind, registry.source("mine").pooling) == (
            "embedding",
            "last",
        )
        assert registry.source("ash").kind is None
        assert registry.source("all-minilm-l6-v2").kind == "embedding"

    def test_cannot_be_fused(self, folders: Path) -> None:
        message = project_error(folders, '[fusions.bad]\nsources = ["ash", "all-minilm-l6-v2"]\n')
        assert "line 2: 'all-minilm-l6-v2' is an embedding model and cannot write text." in message

    def test_unknown_kind(self, folders: Path) -> None:
        message = project_error(folders, '[sources.a]\nfile = "a.gguf"\nkind = "embeding"\n')
        assert "line 3: kind is 'embeding' (did you mean 'embedding'?)" in message


def test_a_source_may_be_for_a_node_of_a_cluster(folders: Path) -> None:
    write(
        folders / "project" / "models.toml",
        """[sources.a]
file = "a.gguf"
ray = { num_cpus = 8, num_gpus = 0.5, memory = "4GiB", resources = { big = 1 } }
[sources.b]
file = "b.gguf"
where = "ray"
[sources.c]
file = "c.gguf"
where = "here"
ray = { labels = { zone = "1" } }
[sources.d]
file = "d.gguf"
""",
    )
    a, b, c, d = (load_registry().source(name) for name in "abcd")
    assert a.ray == Placement(8, 0.5, 4 * 1024**3, {"big": 1})
    assert [spec.is_on_ray for spec in (a, b, c, d)] == [True, True, False, False]
    every = LoadOptions(ray="head:6379")
    assert [every.is_on_ray(spec) for spec in (a, b, c, d)] == [True, True, False, True]
