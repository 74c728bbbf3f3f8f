"""A run's folder and files."""

from tasks.run import keep_earlier, make_run_folder, output_names, write_whole


def test_folders_of_the_same_second_differ(tmp_path):
    assert len({make_run_folder(tmp_path, "vit") for _ in range(5)}) == 5


def test_write_whole_leaves_nothing_beside(tmp_path):
    write_whole(tmp_path / "a.json", "{}")
    write_whole(tmp_path / "a.json", "[]")
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    assert (tmp_path / "a.json").read_text() == "[]"


def test_keep_earlier_loses_nothing(tmp_path):
    for number in range(4):
        keep_earlier(tmp_path / "a.csv")
        (tmp_path / "a.csv").write_text(str(number))
    assert sorted(path.read_text() for path in tmp_path.iterdir()) == ["0", "1", "2", "3"]
    assert (tmp_path / "a.csv").read_text() == "3"


def test_names_of_outputs_are_unlike_each_other():
    assert output_names(["in/a/1.jpg", "in/b/1.jpg", "in/b/1.png"]) == ["a/1", "b/1", "b/1-2"]
    assert output_names(["x/a.b.jpg"]) == ["a.b"]
    assert output_names(["p.jpg", "P.png", "p-2.jpg"]) == ["p", "P-2", "p-2-2"]
    assert output_names(["in/a.jpg", "in/../b.jpg"]) == ["in/a", "b"]
    assert output_names([]) == []
