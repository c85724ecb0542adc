import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from fracray.extraction.attempts import DEATHS, Attempts, survive


class Died(BaseException):
    """Stands for the end of a process: nothing behind it runs."""


def rows(count: int) -> pa.Table:
    return pa.table(
        {
            "image_id": [str(number) for number in range(count)],
            "pixels": [bytes([number]) for number in range(count)],
            "reason": pa.nulls(count, pa.string()),
        }
    )


def restarted(table: pa.Table, poisonous: set[int], chance: list[bool]) -> tuple[pa.Table, int]:
    """Run a step as Ray does, from the start after each death; returns its result and the deaths.

    The step dies on poisonous pixels, and by `chance` on anything.
    """
    attempts, deaths, unlucky = Attempts(), 0, list(chance)

    def step(part: pa.Table) -> pa.Table:
        pixels = [value[0] for value in part["pixels"].to_pylist() if value is not None]
        if poisonous & set(pixels) or (pixels and unlucky and unlucky.pop(0)):
            raise Died
        return part

    while True:
        try:
            return survive(table, step, "captioning", "pixels", attempts), deaths
        except Died:
            deaths += 1


@given(st.integers(1, 12), st.data())
def test_only_the_rows_that_kill_are_given_up_and_soon(count: int, data: st.DataObject) -> None:
    poisonous = data.draw(st.sets(st.integers(0, count - 1), max_size=3))
    done, deaths = restarted(rows(count), poisonous, [])
    failed = {row["image_id"] for row in done.to_pylist() if row["reason"] is not None}
    assert failed == {str(number) for number in poisonous}
    assert done["image_id"].to_pylist() == [str(number) for number in range(count)]
    assert deaths <= (DEATHS + DEATHS * len(poisonous) if poisonous else 0)


@given(st.lists(st.booleans(), max_size=3))
def test_up_to_three_deaths_by_chance_cost_no_row(chance: list[bool]) -> None:
    done, _ = restarted(rows(4), set(), chance)
    assert done["reason"].null_count == 4


def test_what_is_given_up_says_which_step_died_and_what_to_do() -> None:
    done, _ = restarted(rows(1), {0}, [])
    assert done["reason"][0].as_py() == (
        "captioning killed its process 2 times on this radiograph alone; look at its file, or at memory"
    )
    assert done["pixels"][0].as_py() is None
