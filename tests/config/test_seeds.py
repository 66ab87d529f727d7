"""Seeds of runs: one run for each, paired where one run is initialised from another."""

import pytest

from phf import config
from phf.errors import InputError


def recipe(**runs):
    return config.check(config.Recipe, {"train": {"tokens": "1M"}, "runs": runs}, "")


def conditional(**keys):
    return {"objective": {"name": "conditional", "threshold": 0}, **keys}


def test_a_number_of_seeds_is_as_many_runs():
    expanded = recipe(mle="mle", conditional=conditional(seeds=3, train={"lr": 1e-3})).expanded()
    assert list(expanded.runs) == ["mle", "conditional.seed-0", "conditional.seed-1", "conditional.seed-2"]
    assert [expanded.train_of(name).seed for name in expanded.runs] == [0, 0, 1, 2]
    assert expanded.train_of("conditional.seed-2").lr == 1e-3
    assert expanded.evaluate.seed == recipe(mle="mle").evaluate.seed, "all are sampled with one seed"
    assert list(recipe(a=conditional(seeds=[100, 107])).expanded().runs) == ["a.seed-100", "a.seed-107"]


def test_a_run_initialised_from_another_is_of_the_same_seed():
    init, two = {"init": {"run": "mle", "at": "50%"}}, {"objective": "mle", "seeds": 2}
    expanded = recipe(mle=two, half=conditional(seeds=2, train=init), one=conditional(train=init)).expanded()
    inits = {name: expanded.train_of(name).init for name in expanded.runs if expanded.train_of(name).init}
    pairs = {name: init.run for name, init in inits.items()}
    assert pairs == {"half.seed-0": "mle.seed-0", "half.seed-1": "mle.seed-1", "one": "mle.seed-0"}
    assert {init.at for init in inits.values()} == {"50%"}
    single = recipe(mle="mle", half=conditional(seeds=2, train=init)).expanded()
    assert {single.train_of(f"half.seed-{seed}").init.run for seed in (0, 1)} == {"mle"}


def test_a_seed_that_the_other_run_lacks_is_named():
    made = recipe(mle={"objective": "mle", "seeds": 2}, half=conditional(seeds=3, train={"init": {"run": "mle"}}))
    said = r"runs\.half\.train\.init\.run: mle has the seeds 0, 1, but not 2; add it to runs\.mle\.seeds"
    with pytest.raises(InputError, match=said):
        made.expanded()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"seeds": 0}, "greater than 0"),
        ({"seeds": []}, r"seeds is \[\]"),
        ({"seeds": [1, 1]}, r"expected a number of seeds, or a list of different ones"),
        ({"seeds": 2, "train": {"seed": 4}}, r"no `train\.seed` of its own"),
        ({"seeds": 2, "model": "hf:gpt2"}, "seeds belong to a run that is trained"),
    ],
)
def test_wrong_seeds(keys, message):
    with pytest.raises(InputError, match=message):
        recipe(a=conditional(**keys))


def test_seeds_can_be_changed_on_the_command_line(tmp_path):
    (tmp_path / "recipe.yaml").write_text("runs: {a: mle}\n")
    made = config.read_recipe(tmp_path / "recipe.yaml", ["runs.a.seeds=2"])
    assert list(made.expanded().runs) == ["a.seed-0", "a.seed-1"]


@pytest.mark.parametrize("name", ["../../x", "/etc/x", "a/b", "a\0b", "", ".hidden", "x" * 300])
@pytest.mark.parametrize("key", ["name", "evaluation", "run"])
def test_names_stay_inside_the_output_folder(name, key):
    fields = {
        "name": {"name": name},
        "evaluation": {"evaluate": {"evaluations": {name: "heldout"}}},
        "run": {"runs": {name: "mle"}},
    }[key]
    with pytest.raises(InputError, match="expected at most 100 letters, digits") as error:
        config.check(config.Recipe, fields, "")
    assert len(str(error.value)) < 250
