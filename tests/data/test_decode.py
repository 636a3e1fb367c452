"""Many images on several processes."""

import multiprocessing
import os

import pytest

from radiffuse.data.decode import prepare_images
from radiffuse.errors import DataError
from tests.data.layouts import chest, encode


def test_results_come_in_order_and_items_without_a_path_pass_through(tmp_path):
    paths = []
    for number in range(40):
        path = tmp_path / f"{number}.jpg"
        path.write_bytes(b"" if number == 7 else encode(chest(seed=number)))
        paths.append((number, None if number % 5 == 4 else path))
    results = list(prepare_images(paths, 32, processes=2))
    assert [number for number, _ in results] == list(range(40))
    assert {number for number, image in results if image is None} == set(range(4, 40, 5))
    assert [number for number, image in results if image is not None and image.reason is not None] == [7]


def test_items_are_taken_a_bounded_number_ahead(tmp_path):
    path = tmp_path / "0.jpg"
    path.write_bytes(encode(chest()))
    taken = []
    images = prepare_images(((taken.append(number), path) for number in range(10_000)), 32, processes=1)
    next(images)
    images.close()
    assert len(taken) < 200
    assert multiprocessing.active_children() == []


def test_a_process_that_dies_is_one_clear_error(tmp_path):
    fifo = tmp_path / "0.jpg"
    os.mkfifo(fifo)  # nobody writes to it, so the worker waits there until it is killed

    def items():
        while True:
            yield 0, fifo
            for child in multiprocessing.active_children():
                child.kill()

    with pytest.raises(DataError, match="a process that decodes images died, most likely for want of memory"):
        list(prepare_images(items(), 32, processes=1))
